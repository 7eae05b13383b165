"""Uses that run, but are hardly meant, are warned of, once; others are not."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, known, least, typical
from oracles import DEFAULTS
from stepping import make, random, take_steps

import sphere_fused
from sphere_fused import plan

each = pytest.mark.parametrize("name", REPRESENTATIVES)


def with_grad(p: torch.Tensor) -> torch.Tensor:
    p.grad = torch.ones_like(p)
    return p


@pytest.mark.parametrize("name", [n for n in REPRESENTATIVES if "channel_dims" in DEFAULTS[n]])
def test_every_group_elementwise(name: str, backend: str) -> None:
    weights = [random(6, 5, seed=1), random(5, 6, seed=2), random(6, seed=3)]
    groups = [{"params": [p]} for p in weights]
    with pytest.warns(UserWarning, match=f"{name} steps every parameter element by") as caught:
        make(name, groups, backend, channel_dims=None, **least(name))
    assert [w.filename for w in caught] == [make.__code__.co_filename]


def test_a_subclass_is_not_blamed(backend: str) -> None:
    class Own(sphere_fused.AdamSRT):
        def __init__(self, params: Any) -> None:
            super().__init__(params, channel_dims=None, backend=backend)

    with pytest.warns(UserWarning, match="Own steps every parameter") as caught:
        Own([random(6, 5, seed=1), random(5, 6, seed=2)])
    here = inspect.currentframe()
    assert here is not None
    assert caught[0].lineno == here.f_lineno - 3


@each
def test_a_step_by_the_reference_that_nobody_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "compiled", None)
    monkeypatch.setattr(plan, "compiled_import_error", "it was not built")
    params = [with_grad(random(6, 5, seed=seed)) for seed in (1, 2)]
    optimizer = make(name, params, None, **least(name))
    with pytest.warns(UserWarning, match="the reference steps what no") as caught:
        take_steps(optimizer, params, [[torch.ones(6, 5)] * 2] * 3)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "parameter 0 of group 0 (6, 5)" in message
    assert "native: the compiled module is missing: it was not built" in message


def test_weight_decay_on_spheres(backend: str) -> None:
    with pytest.warns(UserWarning, match="weight_decay does nothing to the unit vectors of AdamG"):
        make("AdamG", [random(6, 5, seed=1)], backend, weight_decay=0.1)


@each
def test_other_uses_are_not_warned_of(name: str, backend: str) -> None:
    weight, bias = (with_grad(random(*shape, seed=1)) for shape in ((6, 5), (6,)))
    arguments = {**typical(name), "weight_decay": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(name, [weight, bias], backend, **arguments).step()
        # As when each parameter has an optimizer of its own, and as a head alone.
        make(name, [bias], backend, **arguments).step()
        none = known(name, channel_dims=None)
        make(name, [weight, bias], backend, **arguments, **none).step()
        make(name, [random(3, 1, seed=3), random(1, 1, seed=4)], backend, **arguments)
        rest = {"params": [bias], **none, "weight_decay": 0.1}
        make(name, [{"params": [weight]}, rest], backend, **arguments).step()
