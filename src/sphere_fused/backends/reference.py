"""The four moves in plain torch: any device, any strides, any channel_dims; written to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sphere_fused.plan import Entry, GroupHyper, Plan
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Update

NAME = "reference"


def unavailable(device: torch.device) -> list[str]:
    if device.type == "cuda" and not torch.cuda.is_available():
        return ["torch finds no GPU"]
    return []


def reasons(entry: Entry) -> list[str]:
    return []


def prepare(plan: Plan, indices: list[int]) -> Callable[[list[GroupHyper]], None]:
    def run(hypers: list[GroupHyper]) -> None:
        """A found_inf on a device is read, so the step waits for it and no graph can hold it."""
        if float(hypers[0].found_inf) != 0.0:
            return
        for i in indices:
            entry = plan.entries[i]
            if entry.param.grad is not None:
                step_parameter(entry, hypers[entry.group].on(entry.param.device))

    return run


def step_parameter(entry: Entry, hyper: GroupHyper) -> None:
    state, p = entry.state, entry.param
    assert p.grad is not None
    h = hyper.at(count_step(state, entry), entry.dim)
    w = p.to(entry.state_dtype)
    g = p.grad.to(w.dtype)
    if isinstance(h.unscale, torch.Tensor) or h.unscale != 1.0:
        g = g * h.unscale
    if h.weight_decay != 0.0:
        g = g + h.weight_decay * w
    m = state.get(entry.moment_key, torch.zeros((), dtype=w.dtype, device=w.device))
    v = state.get("exp_avg_sq")

    x, m, v = moments(entry.rule, g, m, v, h)
    update = decide(entry.rule, w, x, g, v, entry.inside, h)

    # Both before either is written: w, x and g may be the tensors in memory.
    tangent = g - update.radial * w
    new_w = update.a_w * w + update.a_x * x + update.a_h * tangent
    if entry.rule.direction != "adam":
        m = update.b_w * w + update.b_x * x + update.b_h * tangent
    p.copy_(new_w)
    if entry.keeps_moment:
        state[entry.moment_key].copy_(m)
    if v is not None:
        v.copy_(update.s)


def count_step(state: dict[str, Any], entry: Entry) -> Any:
    """Increment `step`; returns it as a number, or as a tensor where reading it would wait."""
    if not entry.counts_steps:
        return 0
    step = state["step"].add_(1)
    return step.item() if step.is_cpu else step.double()


def moments(
    rule: Rule, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor | None, h: Hyper
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Move 1: the direction x, and the moments after it."""
    if rule.direction == "previous":
        return m.expand_as(g), m, v
    m = h.beta1 * m + h.gain1 * g
    if rule.direction == "moment":
        return m, m, v
    assert v is not None
    v.mul_(h.beta2).add_(h.gain2 * g * g)
    return (m / h.bc1) / ((v / h.bc2).sqrt() + h.eps), m, v


def ask(function: Callable[..., Update], *arguments: Any, h: Hyper) -> Update:
    """What a function of a rule says."""
    try:
        return function(*arguments, h)
    except ZeroDivisionError:
        # A number of Python's by another that is 0, where tensors and other backends have infinity.
        device = arguments[0].ww.device

        def tensors(numbers: Any) -> list[torch.Tensor]:
            return [torch.as_tensor(n, dtype=torch.float64, device=device) for n in numbers]

        own = type(h.own)(*tensors(h.own))
        return function(*arguments, Hyper._make([*tensors(h[:-1]), own]))


def decide(
    rule: Rule,
    w: torch.Tensor,
    x: torch.Tensor,
    g: torch.Tensor,
    s: torch.Tensor | None,
    inside: tuple[int, ...],
    h: Hyper,
) -> Update:
    """Moves 2 and 3: the Gram, and what the rule makes of it."""

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).sum(dim=inside, keepdim=True) if inside else a * b

    ww, wg = inner(w, w), inner(w, g)
    radial = wg / ww if rule.direction == "previous" else 0.0
    tangent = g - radial * w
    gram = Gram(
        ww=ww,
        wx=inner(w, x),
        xx=inner(x, x),
        wg=wg,
        gg=inner(g, g),
        gx=inner(g, x),
        hh=inner(tangent, tangent),
        hx=inner(tangent, x),
    )
    update = ask(rule.step, gram, s, h=h)._replace(radial=radial)
    if rule.land is None:
        return update
    y = update.a_w * w + update.a_x * x
    landing = Landing(inner(y, y), inner(w, y), inner(x, y))
    return ask(rule.land, gram, landing, update, h=h)
