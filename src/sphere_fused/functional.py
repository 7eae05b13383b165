"""A step as one operator on lists of tensors, which is all that torch.compile sees of it.

The operator knows its optimizer by a number and asks it for the hyperparameters of the moment, so
that a new lr compiles nothing anew. (What the compiled code itself sets in a group is there when
all of it has run, for the next step.) It writes to the tensors that it is given, which under some
compilers are copies, and are copied back later.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, library

from sphere_fused import backends
from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.plan import Plan


class Tensors(NamedTuple):
    """Those of a step: a gradient per parameter, and one after the other what states they have."""

    params: list[Tensor]
    grads: list[Any]
    states: list[Tensor]


@dataclasses.dataclass
class Operands:
    """What a compiled step was traced with: every parameter, and the dict of its state."""

    pairs: list[tuple[Tensor, dict[str, Any]]] = dataclasses.field(default_factory=list)
    hold: bool = False  # whether they still are the optimizer's

    def with_gradient(self) -> list[int]:
        return [i for i, (p, _) in enumerate(self.pairs) if p.grad is not None]

    def tensors(self, which: Sequence[int]) -> Tensors:
        params = [self.pairs[i][0] for i in which]
        states = [t for i in which for t in self.pairs[i][1].values() if isinstance(t, Tensor)]
        return Tensors(params, [p.grad for p in params], states)


class Stepper(Protocol):
    def make_ready(self) -> None:
        """Make the operands that hold now."""

    def step_given(self, given: Tensors, which: list[int]) -> None:
        """Step those tensors of the operands `which`, or copies of them."""


# By id; none is kept alive.
steppers: weakref.WeakValueDictionary[int, Stepper] = weakref.WeakValueDictionary()

# Of a CUDA graph, which torch.compile may make by itself: it would go on with the lr that it was
# captured with. torch before 2.8 has no such tag, and makes none if tensors are written to.
TAGS: dict[str, Any] = (
    {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}
)


@library.custom_op(
    "sphere_fused::step_",
    mutates_args=("params", "states"),
    schema="(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] states, int[] which, int stepper, "
    "bool grad_enabled) -> ()",
    **TAGS,
)
def step_(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[Tensor],
    which: list[int],
    stepper: int,
    grad_enabled: bool,
) -> None:
    try:
        steppers[stepper].step_given(Tensors(params, grads, states), which)
    except BaseException:
        # As it was around the step: a compiled no_grad() does not see to that after an error.
        torch.set_grad_enabled(grad_enabled)
        raise


@step_.register_fake
def _(*arguments: Any) -> None:
    pass


def call(operands: Operands, stepper: int, grad_enabled: bool) -> None:
    """Call the operator for what has a gradient. torch.compile traces this, and traces it again
    when something that is read here has changed."""
    if operands.hold:
        which = operands.with_gradient()
        torch.ops.sphere_fused.step_(*operands.tensors(which), which, stepper, grad_enabled)


def step_copies(
    entries: Sequence[Entry],
    state: dict[Tensor, dict[str, Any]],
    copies: dict[int, Tensor],
    grads: dict[int, Tensor],
    hypers: list[GroupHyper],
) -> None:
    """Step copies of parameters and of their states.

    Args:
        entries: of the parameters themselves.
        state: where state goes that they lack, by parameter.
        copies: by the id of what they are copies of. State that has none is stepped itself.
        grads: by the id of the parameter; what has none here is not stepped.
        hypers: of every group.
    """
    entries = [e for e in entries if id(e.param) in grads]
    copied = []
    for e in entries:
        p = copies[id(e.param)].detach()
        p.grad = grads[id(e.param)]
        state_of_copy = {key: copies.get(id(value), value) for key, value in e.state.items()}
        copied.append(dataclasses.replace(e, param=p, state=state_of_copy))
    step_once(copied, {e.param: e.state for e in copied}, hypers)
    for e, copy in zip(entries, copied, strict=True):
        state[e.param].update({k: t for k, t in copy.state.items() if k not in e.state})


def step_once(
    entries: list[Entry], state: dict[Tensor, dict[str, Any]], hypers: list[GroupHyper]
) -> None:
    """Step what no plan is kept for; `state` by parameter."""
    plan = Plan(entries, state, [])
    runs = backends.prepare(plan)
    if not plan.ready():
        raise RuntimeError("the tensors of a step changed while it was prepared")
    for run in runs:
        run(hypers)
