"""Tensors that cannot be stepped are refused with a reason, and before anything has changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from cases import REPRESENTATIVES, least, moment_of, typical
from oracles.tolerance import assert_same
from refusals import assert_construction_refused, grads_of, several_good
from stepping import assert_unchanged, make, random, random_grads, snapshot, take_steps
from torch import Tensor
from torch.optim import Optimizer

each = pytest.mark.parametrize("name", REPRESENTATIVES)


def sparse_parameter() -> Tensor:
    return random(4, 5, seed=4).to_sparse()


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (lambda: random(4, 5, seed=4).to(torch.complex64), TypeError, "complex64"),
        (lambda: torch.ones(4, 5, dtype=torch.int64), TypeError, "int64"),
        (lambda: torch.ones(4, 5, dtype=torch.bool), TypeError, "bool"),
        (sparse_parameter, TypeError, "sparse"),
        (lambda: torch.ones(1, 5).expand(4, 5), RuntimeError, "share memory.*clone"),
        (lambda: torch.ones(()).expand(4, 5), RuntimeError, "share memory.*clone"),
    ],
    ids=["complex", "int", "bool", "sparse", "expanded", "expanded-scalar"],
)
@each
def test_parameters_of_a_wrong_kind(
    name: str, bad: Callable[[], Tensor], error: type[Exception], match: str, backend: str
) -> None:
    assert_construction_refused(name, [bad()], backend, error, match)


@each
def test_things_that_are_no_parameters(name: str, backend: str) -> None:
    assert_construction_refused(name, ["weight"], backend, TypeError, "Tensor")
    assert_construction_refused(name, [None], backend, TypeError, "Tensor")
    with pytest.raises(TypeError):
        make(name, random(3, 4, seed=1), backend, **least(name))
    leaf = random(3, 4, seed=1).requires_grad_()
    assert_construction_refused(name, [leaf * 2], backend, ValueError, "leaf")


@each
def test_no_parameters_at_all(name: str, backend: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        make(name, [], backend, **least(name))


@each
def test_a_parameter_listed_twice(name: str, backend: str) -> None:
    good = several_good()
    kept = [p.clone() for p in good]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="twice"):
            make(name, [*good, good[0]], backend, **least(name))
        with pytest.raises(ValueError, match="more than one parameter group"):
            make(name, [{"params": good}, {"params": [good[0]]}], backend, **least(name))
    for p, before in zip(good, kept, strict=True):
        assert_same(p, before)


def assert_step_refused(
    optimizer: Optimizer, error: type[Exception], match: str, undo: Callable[[], None]
) -> None:
    """That step() refuses and changes nothing, and goes on when all is well again."""
    before = snapshot(optimizer)
    for _ in range(2):  # what was noted in a refused step must not let the next one pass
        with pytest.raises(error, match=match):
            optimizer.step()
        assert_unchanged(optimizer, before)
    undo()
    before = snapshot(optimizer)
    optimizer.step()
    for old, new in zip(before["params"], snapshot(optimizer)["params"], strict=True):
        assert not torch.equal(old, new)


# Each makes the gradient of `p` one that cannot be used.
def sparse_gradient(p: Tensor) -> None:
    p.grad = random(*p.shape, seed=9).to_sparse()


def float64_gradient(p: Tensor) -> None:
    p.grad, p.grad_dtype = None, None
    p.grad = random(*p.shape, seed=9, dtype=torch.float64)


def half_gradient(p: Tensor) -> None:
    p.grad, p.grad_dtype = None, None
    p.grad = random(*p.shape, seed=9, dtype=torch.bfloat16)


def complex_gradient(p: Tensor) -> None:
    p.grad, p.grad_dtype = None, None
    p.grad = random(*p.shape, seed=9).to(torch.complex64)


def the_parameter_itself(p: Tensor) -> None:
    p.grad = p.detach()


def a_view_of_the_parameter(p: Tensor) -> None:
    p.grad = p.detach().t()


def a_part_of_something_with_the_parameter(p: Tensor) -> None:
    both = torch.cat([p.detach(), p.detach()])
    p.data, p.grad = both[:5], both[4:9]


def parameter_of_another_shape(p: Tensor) -> None:
    """.grad refuses a wrong shape itself, but not when the parameter changes afterwards."""
    p.data = torch.cat([p.detach(), p.detach()])


def parameter_of_another_dtype(p: Tensor) -> None:
    p.grad, p.grad_dtype = None, None
    p.grad = random(*p.shape, seed=9, dtype=torch.float16)
    p.data = p.detach().to(torch.bfloat16)


BAD_GRADIENTS = [
    (sparse_gradient, RuntimeError, "gradient of .*sparse"),
    (float64_gradient, TypeError, "gradient of .*float64"),
    (half_gradient, TypeError, "gradient of .*bfloat16"),
    (complex_gradient, TypeError, "gradient of .*complex64"),
    (the_parameter_itself, RuntimeError, "gradient of .* overlaps"),
    (a_view_of_the_parameter, RuntimeError, "gradient of .* overlaps"),
    (a_part_of_something_with_the_parameter, RuntimeError, "gradient of .* overlaps"),
    (parameter_of_another_shape, RuntimeError, r"\(10, 5\)"),
    (parameter_of_another_dtype, TypeError, "gradient of .*float16"),
]


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize(
    ("spoil", "error", "match"), BAD_GRADIENTS, ids=[b[0].__name__ for b in BAD_GRADIENTS]
)
@each
def test_bad_gradients(
    name: str,
    spoil: Callable[[Tensor], None],
    error: type[Exception],
    match: str,
    steps_before: int,
    backend: str,
) -> None:
    params = [*several_good(), random(5, 5, seed=4)]
    optimizer = make(name, params, backend, **typical(name))
    grads = grads_of(params)
    take_steps(optimizer, params, [grads] * steps_before)
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    last, kept = params[-1], params[-1].detach().clone()
    spoil(last)

    def undo() -> None:
        last.grad, last.grad_dtype = None, None
        last.data = kept
        last.grad = grads[-1]

    assert_step_refused(optimizer, error, match, undo)


@each
def test_parameters_that_overlap(name: str, backend: str) -> None:
    """Found at the latest at the first step, whatever the kind of overlap."""
    whole = random(12, 5, seed=5)
    overlapping = [whole[:7], whole[6:]]
    params = [*several_good(), *overlapping]

    def construct_and_step() -> None:
        optimizer = make(name, params, backend, **typical(name))
        kept = [p.clone() for p in params]
        for p in params:
            p.grad = torch.ones_like(p)
        try:
            optimizer.step()
        finally:
            for p, before in zip(params, kept, strict=True):
                assert_same(p, before)

    with pytest.raises(RuntimeError, match="overlap"):
        construct_and_step()


@each
def test_parts_that_do_not_overlap_are_welcome(name: str) -> None:
    """Halves of one tensor, side by side and interleaved."""
    for cut in (
        lambda t: [t[:6], t[6:]],
        lambda t: [t[:, :2], t[:, 2:]],
        lambda t: [t[::2], t[1::2]],
    ):
        params = cut(random(12, 5, seed=6))
        alone = [p.clone() for p in params]
        grads = [random_grads(p.shape, 2, seed=100 * i) for i, p in enumerate(params)]
        steps = list(zip(*grads, strict=True))
        take_steps(make(name, params, "reference", **typical(name)), params, steps)
        take_steps(make(name, alone, "reference", **typical(name)), alone, steps)
        for p, a in zip(params, alone, strict=True):
            assert_same(p, a)


@each
def test_two_parameters_on_one_storage(name: str, backend: str) -> None:
    """Tied after construction, as `b.data = a.data` does."""
    params = [*several_good(), random(6, 5, seed=7)]
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, [grads_of(params)])
    own = params[-1].detach().clone()
    params[-1].data = params[0].data

    def undo() -> None:
        params[-1].data = own

    assert_step_refused(optimizer, RuntimeError, "overlap", undo)


@each
def test_state_that_overlaps(name: str, backend: str) -> None:
    params = [random(6, 5, seed=1), random(7, seed=2), random(6, 5, seed=3)]
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, [grads_of(params)])
    key = moment_of(name)
    own = optimizer.state[params[2]][key]
    for other in (optimizer.state[params[0]][key], params[0].data):
        optimizer.state[params[2]][key] = other

        def undo() -> None:
            optimizer.state[params[2]][key] = own

        assert_step_refused(optimizer, RuntimeError, "overlap", undo)


@each
def test_a_gradient_shared_by_two_parameters_is_welcome(name: str, backend: str) -> None:
    params = [random(6, 5, seed=1), random(6, 5, seed=2)]
    alone = [p.clone() for p in params]
    g = random_grads((6, 5), 1)[0]
    take_steps(make(name, params, backend, **typical(name)), params, [[g, g]])
    for p, a in zip(params, alone, strict=True):
        take_steps(make(name, [a], backend, **typical(name)), [a], [[g.clone()]])
        assert_same(p, a)


@each
def test_a_gradient_that_overlaps_another_parameter(name: str, backend: str) -> None:
    params = [random(6, 5, seed=1), random(7, seed=2), random(6, 5, seed=3)]
    optimizer = make(name, params, backend, **typical(name))
    for p, g in zip(params, grads_of(params), strict=True):
        p.grad = g
    params[2].grad = params[0].detach()

    def undo() -> None:
        params[2].grad = random(6, 5, seed=9)

    assert_step_refused(optimizer, RuntimeError, "gradient of .* overlaps", undo)


@each
def test_state_on_another_device(name: str, backend: str) -> None:
    params = several_good()
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, [grads_of(params)])
    state = optimizer.state[params[-1]]
    key = moment_of(name)
    own = state[key]
    state[key] = own.to("meta")
    before = [snapshot_of(p, optimizer) for p in params[:-1]]
    with pytest.raises(RuntimeError, match=f"state '{key}' .* meta"):
        optimizer.step()
    for p, (w, moment) in zip(params, before, strict=False):
        assert_same(p, w)
        assert_same(optimizer.state[p][key], moment)
    state[key] = own
    optimizer.step()


def snapshot_of(p: Tensor, optimizer: Optimizer) -> tuple[Tensor, Tensor]:
    state = optimizer.state[p]
    return p.clone(), state.get("momentum_buffer", state.get("exp_avg")).clone()


@each
def test_a_parameter_that_is_nowhere(name: str, native: str) -> None:
    """The reference runs on any device, the meta device too; compiled code needs memory."""
    assert_construction_refused(
        name, [torch.empty(4, 5, device="meta")], native, RuntimeError, "native: .*meta"
    )


def test_messages_name_the_parameter(backend: str) -> None:
    good, last = random(6, 5, seed=1), random(4, 3, seed=2)
    named = [("body.weight", good), ("head.weight", last)]
    optimizer = make("AdamSRT", named, backend)
    good.grad = torch.ones_like(good)
    last.grad_dtype = torch.float64
    last.grad = torch.ones(4, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"head\.weight"):
        optimizer.step()
    unnamed = make("AdamSRT", [random(2, 3, seed=1), last], backend)
    with pytest.raises(TypeError, match=r"parameter 1 of group 0 \(4, 3\)"):
        unnamed.step()
