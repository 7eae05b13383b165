"""What only the compiled backend can get wrong: its check, forks, its absence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import make, random, random_grads, result_of_child, run, take_steps

from sphere_fused import plan


@pytest.fixture(params=["C table", "Python"])
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to look at the tensors before a step; the second serves older versions of torch."""
    if request.param == "Python":
        monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__", raising=False)
    elif not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip("this torch has no __dlpack_c_exchange_api__")
    return request.param


def replace_gradient(p: torch.Tensor, state: dict[str, Any]) -> None:
    p.grad = p.grad.clone()


def transpose_gradient(p: torch.Tensor, state: dict[str, Any]) -> None:
    p.grad = p.grad.t().contiguous().t()


def swap_data(p: torch.Tensor, state: dict[str, Any]) -> None:
    p.data = p.data.clone()


def swap_to_transposed(p: torch.Tensor, state: dict[str, Any]) -> None:
    p.data = p.data.t().contiguous().t()


def replace_state(p: torch.Tensor, state: dict[str, Any]) -> None:
    for key in state:
        state[key] = state[key].clone()


def swap_state_data(p: torch.Tensor, state: dict[str, Any]) -> None:
    state["exp_avg"].data = state["exp_avg"].data.clone()


def swap_step_data(p: torch.Tensor, state: dict[str, Any]) -> None:
    state["step"].data = state["step"].data.clone()


def share_step(p: torch.Tensor, state: dict[str, Any]) -> None:
    """Frees what the tensor lay in, though the tensor and its storage are the same objects."""
    state["step"].share_memory_()


@pytest.mark.parametrize(
    "change",
    [
        replace_gradient,
        transpose_gradient,
        swap_data,
        swap_to_transposed,
        replace_state,
        swap_state_data,
        swap_step_data,
        share_step,
    ],
)
def test_what_moves_between_steps_is_followed(
    change: Callable[[torch.Tensor, dict[str, Any]], None], check: str, native: str
) -> None:
    grads = [random_grads((7, 12), 4), random_grads((5, 9), 4, seed=50)]
    still = [random(7, 12, seed=1), random(5, 9, seed=2)]
    moved = [p.clone() for p in still]
    a, b = make("AdamSRT", still, native), make("AdamSRT", moved, native)
    for of_this_step in zip(*grads, strict=True):
        take_steps(a, still, [of_this_step])
        for p, g in zip(moved, of_this_step, strict=True):
            p.grad = g.clone()
        if b.state:
            change(moved[0], b.state[moved[0]])
        b.step()
    for p, q in zip(still, moved, strict=True):
        assert_same(q, p)


def test_gradients_come_and_go(check: str, native: str) -> None:
    p, q = random(4, 9, seed=1), random(4, 9, seed=2)
    optimizer = make("AdamSRT", [p, q], native)
    for with_p, with_q in [(1, 0), (1, 1), (0, 1), (0, 0), (1, 1)]:
        p.grad = random(4, 9, seed=3) if with_p else None
        q.grad = random(4, 9, seed=4) if with_q else None
        optimizer.step()
    assert optimizer.state[p]["step"] == optimizer.state[q]["step"] == 3


class Masked(torch.Tensor):
    """Has no gradient, whatever its memory says, while `masked`."""

    masked = False

    def __getattribute__(self, name: str) -> Any:
        hidden = name == "grad" and type(self).masked
        return None if hidden else super().__getattribute__(name)


def test_a_gradient_is_what_the_class_of_the_parameter_says(
    check: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = random(4, 9, seed=1).as_subclass(Masked).requires_grad_()
    p.grad = random(4, 9, seed=2)
    optimizer = make("AdamSRT", [p], native)
    optimizer.step()
    monkeypatch.setattr(Masked, "masked", True)
    optimizer.step()
    assert optimizer.state[p]["step"] == 1
    monkeypatch.setattr(Masked, "masked", False)
    optimizer.step()
    assert optimizer.state[p]["step"] == 2


def test_without_the_module_the_reference_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "compiled", None)
    monkeypatch.setattr(plan, "compiled_import_error", "it was not built")
    w0, grads = random(4, 9, seed=1), random_grads((4, 9), 3)
    p, state = run("AdamSRT", w0, grads)
    assert_close_to_oracle("AdamSRT", w0, grads, p, state)
    with pytest.raises(RuntimeError, match="the compiled module is missing: it was not built"):
        make("AdamSRT", [p], "native")


def step_in_child(queue: Any, p: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    torch.set_num_threads(1)  # torch's own operators would wait for the lost threads
    queue.put(p.double().sum().item())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_steps_alone(native: str) -> None:
    p = random(64, 4096, seed=1)
    p.grad = random(64, 4096, seed=2)
    optimizer = make("AdamSRT", [p], native)
    optimizer.step()  # starts OpenMP's threads, which the child will not have
    total = result_of_child("fork", step_in_child, p, optimizer)
    optimizer.step()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one order of summation in both processes
    expected = p.double().sum().item()
    torch.set_num_threads(threads)
    assert total == expected


def test_a_longer_gradient_at_the_same_address_is_checked_again() -> None:
    """One in float32 reaches into the parameter, where one in bfloat16 ended before it."""
    memory = torch.zeros(64, dtype=torch.bfloat16)
    p = memory[24:40].view(4, 4)
    if not hasattr(p, "grad_dtype"):
        pytest.skip("this torch has no Tensor.grad_dtype")
    optimizer = make("AdamSRT", [p], "native")
    p.grad = memory[:16].view(4, 4)
    optimizer.step()
    p.grad = None
    p.grad_dtype = None
    p.grad = memory.view(torch.float32)[:16].view(4, 4)
    with pytest.raises(RuntimeError, match="overlaps"):
        optimizer.step()
