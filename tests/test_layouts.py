"""Where tensors lie in memory does not change the numbers, and the state lies like its weight."""

from __future__ import annotations

import pytest
import torch
from cases import PER_SEGMENT, REPRESENTATIVES, counts_steps, moment_of, over, typical
from layouts import LAYOUTS, Layout, channels_last, permuted, sliced, strided
from oracles import DEFAULTS
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import make, random, random_grads, take_steps
from torch import Tensor

SCATTERED = [layout for layout in LAYOUTS if not layout.blocks]


def by_name(layout: Layout) -> str:
    return layout.name


def step_three_times(
    name: str, layout: Layout, backend: str | None
) -> tuple[Tensor, torch.optim.Optimizer]:
    p = layout.make(random(*layout.shape, seed=1))
    hyper = over(name, layout.channel_dims)
    optimizer = make(name, [p], backend, **hyper)
    take_steps(optimizer, [p], [[layout.make(g)] for g in random_grads(layout.shape, 3)])
    return p, optimizer


@pytest.mark.parametrize("layout", SCATTERED, ids=by_name)
def test_native_refuses_what_does_not_lie_in_blocks(layout: Layout, native: str) -> None:
    p = layout.make(random(*layout.shape, seed=1))
    for name in (name for name in REPRESENTATIVES if "channel_dims" in DEFAULTS[name]):
        hyper = over(name, layout.channel_dims)
        with pytest.raises(RuntimeError, match=r"native: shape .* with strides"):
            make(name, [p], native, **hyper)
        with pytest.raises(RuntimeError, match=r"(?s)native: shape .* with strides.*triton: "):
            make(name, [p], fused=True, **hyper)


@pytest.mark.parametrize("layout", LAYOUTS, ids=by_name)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_the_state_lies_like_the_weight(name: str, layout: Layout, backend: str) -> None:
    """What has a number per element does; its shapes are tested with its values."""
    p, optimizer = step_three_times(name, layout, backend if layout.blocks else None)
    state = optimizer.state[p]
    if p.numel() == 0:
        return
    per_element = [moment_of(name)]
    if "betas" in DEFAULTS[name] and name not in (*PER_SEGMENT, "RotationalLion"):
        per_element.append("exp_avg_sq")
    for key in per_element:
        assert state[key].shape == p.shape
        assert state[key].dtype == torch.float32
        if layout.make is not strided:
            assert state[key].stride() == p.stride()
    assert ("step" in state) == counts_steps(name)
    if counts_steps(name):
        assert state["step"].shape == ()
        assert float(state["step"]) == 3


@pytest.mark.parametrize("make_weight", [None, channels_last, permuted(3, 2, 1, 0), sliced])
@pytest.mark.parametrize(
    "make_grad", [channels_last, permuted(3, 2, 1, 0), permuted(1, 0, 2, 3), sliced, strided]
)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_gradients_may_lie_otherwise(name: str, make_weight, make_grad, backend: str) -> None:
    shape = (6, 5, 3, 3)
    w0, grads = random(*shape, seed=2), random_grads(shape, 4)
    p = w0.clone() if make_weight is None else make_weight(w0.clone())
    optimizer = make(name, [p], backend, **typical(name))
    # The layout changes on the way, as it does when a part of the model is compiled.
    odd = [make_grad(g) if t != 1 else g for t, g in enumerate(grads)]
    take_steps(optimizer, [p], [[g] for g in odd])
    assert_close_to_oracle(name, w0, grads, p, optimizer.state[p], **typical(name))
    for g, lying in zip(grads, odd, strict=True):
        assert_same(lying, g, "the gradient")


def test_expanded_gradients(backend: str) -> None:
    """`loss = w.sum()` gives a gradient of one element seen everywhere."""
    w0 = random(6, 5, seed=3)
    p = w0.clone()
    optimizer = make("AdamSRT", [p], backend, lr=0.1)
    g = torch.full((), 0.7).expand(6, 5)
    take_steps(optimizer, [p], [[g], [g]])
    state = optimizer.state[p]
    assert_close_to_oracle("AdamSRT", w0, [g, g], p, state, lr=0.1)


@pytest.mark.parametrize("make_weight", [sliced, strided])
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_nothing_around_a_part_of_a_tensor_is_touched(name: str, make_weight) -> None:
    p = make_weight(random(7, 9, seed=4))
    storage = p.untyped_storage()
    whole = torch.tensor([], dtype=p.dtype).set_(storage)
    before = whole.isnan()
    optimizer = make(name, [p], **typical(name))
    take_steps(optimizer, [p], [[g] for g in random_grads((7, 9), 2)])
    assert bool(before.any())
    assert torch.equal(whole.isnan(), before)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_empty_tensors_are_left_alone(name: str, backend: str) -> None:
    params = [torch.empty(0, 5), random(4, 5, seed=5), torch.empty(5, 0), torch.empty(0)]
    alone = params[1].clone()
    grads = random_grads((4, 5), 3)
    optimizer = make(name, params, backend, **typical(name))
    take_steps(
        optimizer,
        params,
        [[torch.empty(0, 5), g, torch.empty(5, 0), torch.empty(0)] for g in grads],
    )
    lonely = make(name, [alone], backend, **typical(name))
    take_steps(lonely, [alone], [[g] for g in grads])
    assert_same(params[1], alone)
