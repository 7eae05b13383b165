"""A step as one operator on lists of tensors, which is all that torch.compile sees of it.

The operator knows its optimizer by a number and asks it for the hyperparameters of the moment, so
that a new lr compiles nothing anew. It writes to the tensors that it is given and to no others: under
some compilers they are copies, which are copied back later.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from sphere_fused import backends
from sphere_fused.plan import Entry, GroupHyper, Plan

# A parameter and the dict of its state.
Operand: TypeAlias = tuple[Tensor, dict[str, Any]]


class Stepper(Protocol):
    def step_given(
        self, params: list[Tensor], grads: list[Tensor], states: list[Tensor], which: list[int]
    ) -> None:
        """Take a step of those parameters, `which` of all, or of copies of them."""


# By id; none is kept alive.
steppers: weakref.WeakValueDictionary[int, Stepper] = weakref.WeakValueDictionary()


@torch.library.custom_op("sphere_fused::step_", mutates_args=("params", "states"))
def step_(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[Tensor],
    which: list[int],
    stepper: int,
) -> None:
    steppers[stepper].step_given(params, grads, states, which)


def call(operands: Sequence[Operand], stepper: int) -> None:
    """Call the operator for all that have a gradient. This is what torch.compile traces."""
    which = with_gradient(operands)
    params, states = tensors_of(operands, which)
    step_(params, [p.grad for p in params], states, which, stepper)


def with_gradient(operands: Sequence[Operand]) -> list[int]:
    return [i for i, (p, _) in enumerate(operands) if p.grad is not None]


def tensors_of(
    operands: Sequence[Operand], which: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Those parameters, and all tensors of their states."""
    params = [operands[i][0] for i in which]
    states = [
        value for i in which for value in operands[i][1].values() if isinstance(value, Tensor)
    ]
    return params, states


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
        grads: the gradients, by the id of the parameter; what has none here is not stepped.
    """
    entries = [e for e in entries if id(e.param) in grads]
    copied = []
    for e in entries:
        p, g = copies[id(e.param)].detach(), grads[id(e.param)]
        if g.dtype != p.dtype:
            p.grad_dtype = g.dtype
        p.grad = g
        state_of_copy = {key: copies.get(id(value), value) for key, value in e.state.items()}
        copied.append(dataclasses.replace(e, param=p, state=state_of_copy))
    plan = Plan(copied, {e.param: e.state for e in copied}, [])
    for e, copy in zip(entries, copied, strict=True):
        state[e.param].update({k: t for k, t in copy.state.items() if k not in e.state})
    runs = backends.prepare(plan)
    if not plan.ready():
        raise RuntimeError("the tensors of a step changed while it was prepared")
    for run in runs:
        run(hypers)
