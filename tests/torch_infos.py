"""Our optimizers as torch.testing._internal describes torch's own: what to make them with, and what
they must refuse. Both begin with what torch's Adam and SGD are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import OPTIMIZERS, known, least
from oracles import DEFAULTS

import sphere_fused

# Skips where torch's own test dependencies (expecttest) are missing.
common = pytest.importorskip("torch.testing._internal.common_optimizers", exc_type=ImportError)

NOT_OURS = ("amsgrad", "differentiable")
HOW = ("capturable", "foreach", "fused")
# Beside torch's, where an optimizer takes them.
OURS: list[dict[str, Any]] = [
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    {"channel_dims": ()},
    {"channel_dims": None},
    {"grad_clip": 0.1},
    {"decision": "filter"},
    {"radius": 2.0, "tangent": True},
    {"zero_mean": False},
    {"always_adapt": True},
]
# Refused with other words, by torch's description of the input.
WORDED: dict[str, tuple[type[Exception], str]] = {
    "a param group cannot have duplicate parameters": (ValueError, "lists a parameter twice"),
    "Tensor lr must be 1-element": (ValueError, "lr must be a number or a one-element tensor"),
    "beta1 should be between 0 and 1": (ValueError, r"betas must be two numbers in \[0, 1\)"),
    "weight_decay should > 0": (ValueError, "weight_decay must be at least 0"),
    "momentum should be between 0 and 1": (ValueError, "momentum must be at least 0"),
}
# Refused by torch for what its implementations lack, and fine here.
WELCOME = (
    "lr as Tensor doesn't work with foreach & not capturable",
    "betas must be either both floats or both Tensors",
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True",
)


def their(what: str, name: str) -> Callable[..., list[Any]]:
    return getattr(common, f"{what}_{'adam' if 'betas' in DEFAULTS[name] else 'sgd'}")


def own(name: str, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """What the optimizer is given where torch's gets `kwargs`; None if it has no such arguments."""
    off = [k for k in (*NOT_OURS, "nesterov") if not kwargs.get(k, False)]
    meant = {k: v for k, v in kwargs.items() if k not in off}
    taken = known(name, **meant) | {k: v for k, v in meant.items() if k in HOW}
    # LARS's own lr is for steps that it scales.
    given = {**least(name), **({"lr": 0.1} if name == "LARS" else {}), **taken}
    return given if taken.keys() == meant.keys() else None


def inputs_of(name: str) -> Callable[..., list[Any]]:
    def inputs(device: str, dtype: torch.dtype | None = None) -> list[Any]:
        # Those for a GPU as well: capturable=True runs everywhere here.
        theirs = [(i.kwargs, i.desc) for i in their("optim_inputs_func", name)("cuda")]
        ours = [(kwargs, ", ".join(kwargs)) for kwargs in OURS]
        return [
            common.OptimizerInput(None, given, desc)
            for kwargs, desc in theirs + ours
            if (given := own(name, kwargs)) is not None
        ]

    return inputs


def error_inputs_of(name: str) -> Callable[..., list[Any]]:
    def error_inputs(device: str, dtype: torch.dtype) -> list[Any]:
        found = []
        for theirs in their("optim_error_inputs_func", name)(device, dtype):
            given = theirs.optimizer_error_input
            error, regex = WORDED.get(given.desc, (theirs.error_type, theirs.error_regex))
            kwargs = own(name, given.kwargs)
            if given.desc not in WELCOME and kwargs is not None:
                given = common.OptimizerInput(given.params, kwargs, given.desc)
                found.append(common.ErrorOptimizerInput(given, error_type=error, error_regex=regex))
        for argument in sorted({*NOT_OURS, "nesterov"} - DEFAULTS[name].keys()):
            found.append(
                common.ErrorOptimizerInput(
                    common.OptimizerInput(None, {**least(name), argument: True}, argument),
                    error_type=TypeError,
                    error_regex=f"has no argument '{argument}': it takes lr, .*maximize",
                )
            )
        with_sparse_gradient = torch.arange(6, device=device, dtype=dtype).view(2, 3)
        with_sparse_gradient.grad = with_sparse_gradient.to_sparse()
        found.append(
            common.ErrorOptimizerInput(
                common.OptimizerInput([with_sparse_gradient], least(name), "sparse gradient"),
                error_on=common.OptimizerErrorEnum.STEP_ERROR,
                error_regex="gradient of .*sparse",
            )
        )
        return found

    return error_inputs


INFOS = [
    common.OptimizerInfo(
        getattr(sphere_fused, name),
        optim_inputs_func=inputs_of(name),
        optim_error_inputs_func=error_inputs_of(name),
        supported_impls=("foreach", "fused"),
        supports_fused_on=("cpu", "cuda"),
        not_og_supported_flags=("foreach", "fused", "maximize", "capturable"),
        has_capturable_arg=True,
        supports_complex=False,
    )
    for name in OPTIMIZERS
]
