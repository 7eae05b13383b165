"""The four moves in plain torch: any device, any strides, any channel_dims; written to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.plan import Plan
from sphere_fused.rule import DIRECTIONS, Gram, Hyper, Landing, Rule, Update
from sphere_fused.segments import Dims

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
    rule, state, p = entry.rule, entry.state, entry.param
    assert p.grad is not None
    h = hyper.at(count_step(state, entry), rule, entry.dim, p.numel())
    w = p.to(entry.state_dtype)
    before = Tensors(
        w=w,
        m=state.get(entry.moment_key, torch.zeros((), dtype=w.dtype, device=w.device)),
        v=state["exp_avg_sq"] if rule.second_moment == "element" else None,
        s=state[rule.state_key] if rule.state_key is not None else None,
        radius=state["radius"] if rule.keeps_radius else None,
    )
    inside = None if entry.elementwise else entry.inside
    after = stepped(rule, inside, before, p.grad.to(w.dtype), h)
    p.copy_(after.w)
    if entry.keeps_moment:
        before.m.copy_(after.m)
    for kept, new in ((before.v, after.v), (before.s, after.s)):
        if kept is not None and new is not None:
            kept.copy_(new)


class Tensors(NamedTuple):
    """A parameter and its state: w, m and v by element, s and radius by segment."""

    w: torch.Tensor
    m: torch.Tensor
    v: torch.Tensor | None
    s: torch.Tensor | None
    radius: torch.Tensor | None


def stepped(rule: Rule, inside: Dims | None, before: Tensors, g: torch.Tensor, h: Hyper) -> Tensors:
    """All moves on segments over the dims `inside`, or on single elements; nothing is written."""
    w = before.w
    if isinstance(h.unscale, torch.Tensor) or h.unscale != 1.0:
        g = g * h.unscale
    if h.l2 != 0.0:
        g = g + h.l2 * w
    x, m, v = moments(rule, g, before.m, before.v, h)
    update = decide(rule, products(rule, w, x, g, inside, before.radius), before.s, h)
    new_w = update.a_w * w + update.a_x * x
    match rule.direction:
        case "moment":
            m = update.b_w * w + update.b_x * x
        case "previous":
            tangent = g - update.radial * w
            new_w = new_w + update.a_h * tangent
            m = update.b_w * w + update.b_x * x + update.b_h * tangent
        case _:
            new_w = new_w + update.a_1
    return Tensors(new_w, m, v, update.s, before.radius)


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
    ahead = h.x_m * m + h.x_g * g
    m = h.beta1 * m + h.gain1 * g
    match rule.direction:
        case "nesterov":
            return ahead, m, v
        case "sign":
            return ahead.sign(), m, v
        case "adam":
            assert v is not None
            v = h.beta2 * v + h.gain2 * g * g
            return (h.x_m * m + h.x_g * g) / (v.sqrt() + h.x_eps), m, v
        case _:
            return m, m, v


@dataclass(frozen=True)
class Products:
    """Move 2: the Gram, and what else may have to be measured."""

    gram: Gram
    radial: Any  # of h = g - radial w
    whole: Gram  # of the tensor, were it one segment
    landing: Callable[[Update], Landing]


def products(
    rule: Rule,
    w: torch.Tensor,
    x: torch.Tensor,
    g: torch.Tensor,
    inside: Dims | None,
    radius: torch.Tensor | None,
) -> Products:
    def total(a: torch.Tensor, dims: Dims | None) -> torch.Tensor:
        return a.sum(dim=dims, keepdim=True) if dims else a

    radial: Any = 0.0
    if rule.direction == "previous" and inside is not None:
        ww, wg = total(w * w, inside), total(w * g, inside)
        radial = torch.where(ww > 0, wg / ww, 0.0)
    h = g - radial * w
    factors: dict[str, tuple[Any, Any]] = {
        "ww": (w, w),
        "wx": (w, x),
        "xx": (x, x),
        "wg": (w, g),
        "gg": (g, g),
        "gx": (g, x),
        "hh": (h, h),
        "hx": (h, x),
        "sw": (w, 1.0),
        "sx": (x, 1.0),
    }
    here = {"ww", "wx", "xx", "gg", *DIRECTIONS[rule.direction]}
    if rule.verdict is not None:
        here.add("wg")

    def gram(dims: Dims | None) -> Gram:
        sums = {name: total(a * b, dims) for name, (a, b) in factors.items() if name in here}
        return Gram(**{name: sums.get(name) for name in factors}, radius=radius)

    def landing(u: Update) -> Landing:
        y = u.a_w * w + u.a_x * x + u.a_1
        return Landing(total(y * y, inside), total(w * y, inside), total(x * y, inside))

    of_segments = gram(inside)
    whole = of_segments if rule.verdict is None else gram(tuple(range(w.dim())))
    return Products(of_segments, radial, whole, landing)


def ask(function: Callable[..., Any], *arguments: Any, h: Hyper) -> Any:
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


def decide(rule: Rule, of: Products, s: torch.Tensor | None, h: Hyper) -> Update:
    """Move 3: what the rule makes of the products."""
    gram = of.gram
    if rule.peak is not None and rule.verdict is not None:
        peak = ask(rule.peak, gram, h=h).amax()
        verdict = ask(rule.verdict, of.whole, peak, h=h)
        h = h._replace(verdict=verdict)
        gram = Gram(
            *(
                None if a is None else torch.where(verdict > 1.0, b, a)
                for a, b in zip(gram, of.whole, strict=True)
            )
        )
    update: Update = ask(rule.step, gram, s, h=h)._replace(radial=of.radial)
    if rule.land is None:
        return update
    return ask(rule.land, gram, of.landing(update), update, h=h)._replace(radial=of.radial)
