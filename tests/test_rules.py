"""What keeps the suite honest: every optimizer is covered, every backend that should run does."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields, replace

import pytest
import torch
from cases import CASES
from oracles import DEFAULTS
from stepping import make, random

import sphere_fused
from sphere_fused.backends import BACKENDS
from sphere_fused.optim import OPTIMIZERS, RULES
from sphere_fused.optim.hyperball import HYPERBALL
from sphere_fused.rule import Rule


def test_rules_are_told_apart() -> None:
    """By users by their names, by backends by their keys."""
    for told_by in ([rule.name for rule in RULES], [rule.key for rule in RULES]):
        assert len(set(told_by)) == len(told_by)
    assert all(rule.name == rule.name.lower() for rule in RULES)
    used = {rule for o in OPTIMIZERS for rule in (o.rule, o.classic, *o.other_rules)}
    assert {rule.key for rule in (*used, HYPERBALL)} == {rule.key for rule in RULES}


def test_a_key_is_of_everything_but_the_name() -> None:
    rule = RULES[0]
    other = {"direction": "sign", "second_moment": None, "segment_state": "q", "own": ("rate",)}
    other |= {"keeps_radius": True, "decays": False}
    other |= dict.fromkeys(("step", "land", "peak", "verdict"), test_rules_are_told_apart)
    keys = {replace(rule, **{field: value}).key for field, value in other.items()}
    assert len(keys | {rule.key}) == len(other) + 1 == len(fields(Rule))
    assert replace(rule, name="other").key == rule.key


def test_every_public_optimizer_is_tested() -> None:
    public = {
        name
        for name in sphere_fused.__all__
        if inspect.isclass(getattr(sphere_fused, name))
        and issubclass(getattr(sphere_fused, name), torch.optim.Optimizer)
    }
    assert public == {o.__name__ for o in OPTIMIZERS}
    assert public == set(CASES), "an optimizer lacks its file in tests/cases"
    assert public <= set(DEFAULTS), "an optimizer lacks its oracle"
    for name, cases in CASES.items():
        assert {"defaults", "typical"} <= set(cases), name


@pytest.mark.parametrize("name", CASES)
def test_cases_and_oracles_know_every_hyperparameter(name: str) -> None:
    """An argument added to a class without a case for it is an argument without a test."""
    signature = inspect.signature(getattr(sphere_fused, name)).parameters
    how = {"params", "capturable", "foreach", "fused", "backend", "own"}
    numbers = {key: p.default for key, p in signature.items() if key not in how}
    assert numbers == DEFAULTS[name]
    varied = {key for hyper in CASES[name].values() for key in hyper}
    assert varied | {"channel_dims"} == set(numbers) | {"channel_dims"}  # which layouts vary


@pytest.mark.parametrize("name", CASES)
def test_argument_order(name: str) -> None:
    signature = inspect.signature(getattr(sphere_fused, name)).parameters
    by_place = [k for k, p in signature.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    as_in_torch = ["lr", "betas", "eps", "weight_decay"]
    if "momentum" in signature:
        as_in_torch = ["lr", "momentum", "dampening", "weight_decay"]
    # Which must be given, and by its name: it does not mean what it does in torch.
    if signature.get("weight_decay", signature["lr"]).default is inspect.Parameter.empty:
        as_in_torch = [k for k in as_in_torch if k != "weight_decay"]
    assert by_place == ["params", *(k for k in as_in_torch if k in signature)]


def test_the_compiled_backend_runs_here() -> None:
    """Otherwise its tests are skipped, and a broken build looks green."""
    if os.environ.get("SPHERE_FUSED_NATIVE") == "0":
        pytest.skip("SPHERE_FUSED_NATIVE=0 asks for an installation without compiled code")
    assert BACKENDS["native"].unavailable(torch.device("cpu")) == []


def test_the_compiled_backend_is_what_runs_by_itself(
    native: str, caplog: pytest.LogCaptureFixture
) -> None:
    p = random(4, 5, seed=1)
    optimizer = make("AdamSRT", [p])
    p.grad = torch.ones(4, 5)
    with caplog.at_level("DEBUG", logger="sphere_fused"):
        optimizer.step()
    assert "native" in caplog.text
    assert "reference" not in caplog.text


@pytest.mark.parametrize(("fused", "expected"), [(True, "native"), (False, "reference")])
def test_fused_chooses(
    fused: bool, expected: str, native: str, caplog: pytest.LogCaptureFixture
) -> None:
    p = random(4, 5, seed=1)
    optimizer = make("AdamSRT", [p], fused=fused)
    p.grad = torch.ones(4, 5)
    with caplog.at_level("DEBUG", logger="sphere_fused"):
        optimizer.step()
    assert f"{expected} steps 1 of 1" in caplog.text
