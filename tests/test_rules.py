"""What keeps the suite honest: every optimizer is covered, every backend that should run does."""

from __future__ import annotations

import inspect
import os

import pytest
import torch
from cases import CASES
from oracles import DEFAULTS
from stepping import make, random

import sphere_fused
from sphere_fused.backends import BACKENDS
from sphere_fused.optim import OPTIMIZERS, RULES


def test_names_of_rules_are_unique() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)
    used = {rule.name for o in OPTIMIZERS for rule in (o.rule, o.classic)}
    assert used == set(names)


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
    varied = {key for hyper in CASES[name].values() for key in hyper} | {"channel_dims"}
    assert varied == set(numbers)


@pytest.mark.parametrize("name", CASES)
def test_argument_order(name: str) -> None:
    signature = inspect.signature(getattr(sphere_fused, name)).parameters
    by_place = [k for k, p in signature.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    second = ["momentum", "dampening"] if name == "SGDMRT" else ["betas", "eps"]
    assert by_place == ["params", "lr", *second, "weight_decay"]


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
