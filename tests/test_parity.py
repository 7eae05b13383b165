"""The numbers of the implementations that others use, to the last digits of float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles.tolerance import EXACT, error
from stepping import make, random
from torch import Tensor
from torch.optim import Optimizer

STEPS = 30
Make = Callable[[list[Tensor]], Optimizer]
# The gradient of step t at the weight w.
Gradient = Callable[[Tensor, int], Tensor]


def noise(w: Tensor, t: int) -> Tensor:
    """With a mean, so that the first moment is not all noise."""
    constant = random(*w.shape, seed=1000, dtype=torch.float64)
    return constant + random(*w.shape, seed=1001 + t, dtype=torch.float64)


def assert_parity(
    ours: Make,
    theirs: Make,
    w0: Tensor,
    gradient: Gradient,
    keys: dict[str, str],
    as_point: Callable[[Tensor], Tensor] = torch.nn.Parameter,
) -> None:
    """Assert that both step from `w0` to the same weight; `keys` are our names of the state, and
    theirs. One of their numbers per segment stands for all of them."""
    p, q = w0.clone(), as_point(w0.clone())
    optimizer, peer = ours([p]), theirs([q])
    for t in range(STEPS):
        g = gradient(q.detach(), t)
        p.grad, q.grad = g, g.clone()
        optimizer.step()
        peer.step()
    assert error(p, q) <= EXACT
    for key, their_key in keys.items():
        actual, expected = optimizer.state[p][key], peer.state[q][their_key]
        if actual.shape != expected.shape:
            expected = expected[..., :1]
        assert error(actual, expected) <= EXACT, key


def radial_by_filter(g: Tensor, w: Tensor) -> Tensor:
    g, w = g.flatten(1), w.flatten(1)
    return (g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True) * w


def tangent_to_filters(w: Tensor, t: int) -> Tensor:
    g = noise(w, t)
    return g - radial_by_filter(g, w).reshape(w.shape)


def tangent_to_the_tensor(w: Tensor, t: int) -> Tensor:
    """But far from tangent to its filters."""
    g = noise(w, t) + 3 * w * random(len(w), seed=t, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return g - (g * w).sum() / (w * w).sum() * w


def radial(w: Tensor, t: int) -> Tensor:
    return noise(w, t) + w


# The three ends that the decision over a tensor may have, and all in turn.
BRANCHES: list[Gradient] = [tangent_to_filters, tangent_to_the_tensor, radial]
BRANCHES.append(lambda w, t: BRANCHES[t % 3](w, t))
BRANCH_IDS = ["by-filter", "by-tensor", "not", "in-turn"]
FILTERS = (6, 5, 3, 3)


@pytest.mark.parametrize("nesterov", [False, True], ids=["", "nesterov"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("gradient", BRANCHES, ids=BRANCH_IDS)
def test_adamp(gradient: Gradient, decay: float, nesterov: bool, backend: str) -> None:
    adamp = pytest.importorskip("adamp", reason="pip install adamp")
    hyper: dict[str, Any] = {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": decay}
    hyper["nesterov"] = nesterov
    keys = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
    assert_parity(
        lambda params: make("AdamP", params, backend, **hyper),
        lambda params: adamp.AdamP(params, **hyper),
        random(*FILTERS, seed=1, dtype=torch.float64),
        gradient,
        keys,
    )


def sgdp_hyper(decay: float, nesterov: bool) -> dict[str, Any]:
    rest = {"lr": 3e-2, "momentum": 0.8, "dampening": 0.3, "wd_ratio": 0.5}
    return {**rest, "weight_decay": decay, "nesterov": nesterov}


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("gradient", BRANCHES, ids=BRANCH_IDS)
def test_sgdp(gradient: Gradient, decay: float, backend: str) -> None:
    """With nesterov, because otherwise theirs projects its buffer where it lies."""
    adamp = pytest.importorskip("adamp", reason="pip install adamp")
    hyper = sgdp_hyper(decay, nesterov=True)
    assert_parity(
        lambda params: make("SGDP", params, backend, **hyper),
        lambda params: adamp.SGDP(params, **hyper),
        random(*FILTERS, seed=2, dtype=torch.float64),
        gradient,
        {"momentum_buffer": "momentum"},
    )


@pytest.mark.parametrize("nesterov", [False, True], ids=["", "nesterov"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("gradient", BRANCHES, ids=BRANCH_IDS)
def test_sgdp_of_pytorch_optimizer(
    gradient: Gradient, decay: float, nesterov: bool, backend: str
) -> None:
    package = pytest.importorskip("pytorch_optimizer", reason="pip install pytorch_optimizer")
    hyper = sgdp_hyper(decay, nesterov)
    assert_parity(
        lambda params: make("SGDP", params, backend, **hyper),
        lambda params: package.SGDP(params, foreach=False, **hyper),
        random(*FILTERS, seed=2, dtype=torch.float64),
        gradient,
        {"momentum_buffer": "momentum"},
    )


@pytest.mark.parametrize("shape", [(33,), (4, 1)], ids=str)
@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_adamp_and_sgdp_on_small_tensors(name: str, shape: tuple[int, ...], backend: str) -> None:
    """Tensors of one dimension are never projected; filters of one element are, by so large a
    delta, and then nothing is left of their step but the decay."""
    adamp = pytest.importorskip("adamp", reason="pip install adamp")
    hyper = {"lr": 3e-2, "weight_decay": 0.3, "nesterov": True, "delta": 1.5}
    assert_parity(
        lambda params: make(name, params, backend, **hyper),
        lambda params: getattr(adamp, name)(params, **hyper),
        random(*shape, seed=3, dtype=torch.float64),
        noise,
        {},
    )


def on_spheres(*shape: int) -> Tensor:
    w = random(*shape, seed=4, dtype=torch.float64)
    return w / w.norm(dim=-1, keepdim=True)


# geoopt's spheres lie along the last dimension.
SPHERES = [((9, 27), (0,)), ((3, 4, 7), (0, 1))]


def assert_parity_with_geoopt(
    name: str,
    shape: tuple[int, ...],
    channel_dims: tuple[int, ...],
    backend: str,
    keys: list[str],
    **hyper: Any,
) -> None:
    geoopt = pytest.importorskip("geoopt", reason="pip install geoopt")
    sphere = geoopt.Sphere()
    assert_parity(
        lambda params: make(name, params, backend, channel_dims=channel_dims, **hyper),
        lambda params: getattr(geoopt.optim, name)(params, **hyper),
        on_spheres(*shape),
        noise,
        {key: key for key in keys},
        lambda w: geoopt.ManifoldParameter(w, manifold=sphere),
    )


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("shape", "dims"), SPHERES, ids=["2-D", "3-D"])
def test_riemannian_adam(
    shape: tuple[int, ...], dims: tuple[int, ...], decay: float, backend: str
) -> None:
    keys = ["exp_avg", "exp_avg_sq"]
    hyper: dict[str, Any] = {"lr": 3e-2, "betas": (0.9, 0.99), "weight_decay": decay}
    assert_parity_with_geoopt("RiemannianAdam", shape, dims, backend, keys, **hyper)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.8, "dampening": 0.3},
    ],
    ids=["plain", "momentum", "nesterov", "dampening"],
)
@pytest.mark.parametrize(("shape", "dims"), SPHERES, ids=["2-D", "3-D"])
def test_riemannian_sgd(
    shape: tuple[int, ...], dims: tuple[int, ...], hyper: dict, decay: float, backend: str
) -> None:
    keys = ["momentum_buffer"] if hyper else []
    hyper = {"lr": 3e-2, "weight_decay": decay, **hyper}
    assert_parity_with_geoopt("RiemannianSGD", shape, dims, backend, keys, **hyper)


MOMENTA: list[dict[str, Any]] = [
    {"momentum": 0.0},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
]
TENSORS = [(6, 5, 3, 3), (9, 27)]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", MOMENTA, ids=["plain", "momentum", "nesterov"])
@pytest.mark.parametrize("shape", TENSORS, ids=str)
def test_lars(shape: tuple[int, ...], momentum: dict, decay: float, backend: str) -> None:
    """Of pytorch_optimizer, which always adapts, without an eps."""
    package = pytest.importorskip("pytorch_optimizer", reason="pip install pytorch_optimizer")
    hyper = {"lr": 0.5, "trust_coefficient": 2e-2, "weight_decay": decay, **momentum}
    assert_parity(
        lambda params: make("LARS", params, backend, eps=0.0, always_adapt=True, **hyper),
        lambda params: package.LARS(params, foreach=False, **hyper),
        random(*shape, seed=5, dtype=torch.float64),
        noise,
        {"momentum_buffer": "momentum_buffer"} if momentum["momentum"] else {},
    )
