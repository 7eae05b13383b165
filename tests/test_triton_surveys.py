"""Rules that see the whole tensor first, and rules side by side, in Triton's interpreter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import typical
from oracles.tolerance import EXACT, assert_close_to_oracle, error
from stepping import make, random, random_grads, take_steps

import sphere_fused as sf
from sphere_fused.backends import triton
from sphere_fused.rule import Rule, Update

if not triton.interpreted():
    pytest.skip("on a GPU, test_cuda.py runs these kernels", allow_module_level=True)
if triton.installed():
    pytest.skip(triton.installed(), allow_module_level=True)

from sphere_fused.backends.triton import launch, shapes

# Rows that are held, the second time as one segment; ones that are read twice; columns; one in
# parts; filters of one element.
SHAPES = [(5, 27), (6, 28), (1, 2600), (9, 40), (1, 5000), (3, 1)]
FACTORS = [0.9, 4.0, 4.0, 4.0, 4.0, 0.9]


def loudness(gram, h):
    return gram.gg / gram.ww


def of_everything(whole, peak, h):
    """Between a third of the factor and all of it."""
    largest = peak * whole.ww
    return h.own.factor * largest / (largest + whole.gg + whole.wg * whole.wg / whole.ww)


def of_the_loudest(whole, peak, h):
    return 0.01 * h.own.factor * peak


def with_moments(gram, s, h):
    return Update(s=s, a_w=gram.wx / gram.ww, a_x=0.1 * h.verdict * gram.gg / gram.xx, b_x=0.5)


def without(gram, s, h):
    a_x = 0.1 * h.verdict * gram.gg / (gram.xx + gram.sx * gram.sx)
    return Update(
        s=s, a_w=1.0 + gram.wx / gram.ww, a_x=a_x, a_1=0.1 * (gram.sw + gram.wg) / gram.ww
    )


SURVEYS: dict[str, Any] = {"peak": loudness, "verdict": of_everything, "own": ("factor",)}
RULES = {
    "moment": Rule("m", with_moments, second_moment=None, **SURVEYS),
    "nesterov": Rule("n", without, None, "nesterov", None, **SURVEYS),
    "sign": Rule("i", without, None, "sign", None, **SURVEYS),
    "adam": Rule("a", without, None, "adam", "element", **SURVEYS),
    "loudest": Rule("l", without, None, "nesterov", None, **{**SURVEYS, "verdict": of_the_loudest}),
}


class Surveying(sf.AdamS):
    def hyper(self, group: dict[str, Any]) -> Any:
        return super().hyper(group)._replace(ahead_m=0.7, ahead_g=0.3)


def stepped(rule: Rule, backend: str, spoilt: bool = False) -> list[torch.Tensor]:
    """Weights and moments after two steps in float64."""
    kind = type("Mine", (Surveying,), {"rule": rule})
    params = [random(*s, seed=i, dtype=torch.float64) for i, s in enumerate(SHAPES)]
    grads = [random_grads(s, 2, torch.float64, seed=100 * i) for i, s in enumerate(SHAPES)]
    if spoilt:
        grads[0][0][3] = math.nan
    groups = [
        {"params": [p], "factor": factor, "channel_dims": (1,) if p.shape == (9, 40) else (0,)}
        for p, factor in zip(params, FACTORS, strict=True)
    ]
    optimizer = kind(groups, betas=(0.5, 0.7), eps=1e-3, backend=backend, factor=1.0)
    # One has no gradient in the second step.
    of_steps = [[of[0] for of in grads], [None, *(of[1] for of in grads[1:])]]
    take_steps(optimizer, params, of_steps)
    return [*params, *(optimizer.state[p]["exp_avg"] for p in params)]


@pytest.mark.parametrize("rule", ["moment", "nesterov", "sign", "adam"])
def test_verdicts_are_the_references(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "PART", 2048)
    expected = stepped(RULES[rule], "reference")
    for a, b in zip(stepped(RULES[rule], "triton"), expected, strict=True):
        assert error(a, b) <= 10 * EXACT


def test_one_segment_that_is_not_finite_spoils_its_tensor() -> None:
    clean, dirty = (stepped(RULES["loudest"], "triton", spoilt) for spoilt in (False, True))
    assert bool(dirty[0].isnan().all())
    for a, b in zip(clean[1 : len(SHAPES)], dirty[1 : len(SHAPES)], strict=True):
        assert torch.equal(a, b)


GROUPS: list[dict[str, Any]] = [
    {"delta": 6.0},
    {"delta": 1.5, "decision": "filter"},
    {"delta": 6.0, "nesterov": True, "weight_decay": 0.3},
    {"delta": 1e-3, "lr": 1e-3},
]


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_rules_side_by_side(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own launches, whatever the number of tensors."""
    launched = []
    call = launch.Launch.__call__
    monkeypatch.setattr(launch.Launch, "__call__", lambda self: (launched.append(self), call(self)))
    start = [[random(*s, seed=i) for i, s in enumerate([(5, 27), (2, 2100), (9,)])] for _ in GROUPS]
    grads = [[random_grads(w.shape, 2, seed=100 * i) for i, w in enumerate(of)] for of in start]
    params = [[w.clone() for w in of] for of in start]
    groups = [{"params": of, **hyper} for of, hyper in zip(params, GROUPS, strict=True)]
    optimizer = make(name, groups, "triton", **typical(name))
    everything = [p for of in params for p in of]
    take_steps(optimizer, everything, list(zip(*(g for of in grads for g in of), strict=True)))
    # The first begins the step; then a survey of four and the step, and the other rule's step.
    assert len(launched) == 2 * (1 + 5 + 1)
    for hyper, *of_group in zip(GROUPS, start, grads, params, strict=True):
        for w0, of_param, p in zip(*of_group, strict=True):
            together = {**typical(name), **hyper}
            assert_close_to_oracle(name, w0, of_param, p, optimizer.state[p], **together)
