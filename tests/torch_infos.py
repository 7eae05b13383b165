"""Our optimizers as torch.testing._internal describes torch's own: what to make them with, and what
they must refuse. Both begin with what torch's Adam and SGD are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import OPTIMIZERS

import sphere_fused

# Skips where torch's own test dependencies (expecttest) are missing.
common = pytest.importorskip("torch.testing._internal.common_optimizers", exc_type=ImportError)

NOT_OURS = ("amsgrad", "nesterov")
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
    return getattr(common, f"{what}_{'sgd' if name == 'SGDMRT' else 'adam'}")


def inputs_of(name: str) -> Callable[..., list[Any]]:
    def inputs(device: str, dtype: torch.dtype | None = None) -> list[Any]:
        # Those for a GPU as well: capturable=True runs everywhere here.
        theirs = [i for i in their("optim_inputs_func", name)("cuda") if not refused(i.kwargs)]
        ours: list[dict[str, Any]] = [
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
            {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
            {"channel_dims": ()},
            {"channel_dims": None},
            *([{"grad_clip": 0.1}] if name == "AdamG" else []),
        ]
        known = [{k: v for k, v in i.kwargs.items() if k not in NOT_OURS} for i in theirs]
        descriptions = [i.desc for i in theirs] + [", ".join(kwargs) for kwargs in ours]
        return [
            common.OptimizerInput(None, kwargs, desc)
            for kwargs, desc in zip(known + ours, descriptions, strict=True)
        ]

    return inputs


def refused(kwargs: dict[str, Any]) -> bool:
    return any(kwargs.get(argument) for argument in NOT_OURS)


def error_inputs_of(name: str) -> Callable[..., list[Any]]:
    def error_inputs(device: str, dtype: torch.dtype) -> list[Any]:
        found = []
        for theirs in their("optim_error_inputs_func", name)(device, dtype):
            given = theirs.optimizer_error_input
            error, regex = WORDED.get(given.desc, (theirs.error_type, theirs.error_regex))
            if given.desc not in WELCOME:
                found.append(common.ErrorOptimizerInput(given, error_type=error, error_regex=regex))
        for argument in ("amsgrad", "nesterov", "differentiable"):
            found.append(
                common.ErrorOptimizerInput(
                    common.OptimizerInput(None, {argument: True}, argument),
                    error_type=TypeError,
                    error_regex=f"has no argument '{argument}': it takes lr, .*weight_decay",
                )
            )
        with_sparse_gradient = torch.ones(2, 3, device=device, dtype=dtype)
        with_sparse_gradient.grad = with_sparse_gradient.to_sparse()
        found.append(
            common.ErrorOptimizerInput(
                common.OptimizerInput([with_sparse_gradient], {}, "sparse gradient"),
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
