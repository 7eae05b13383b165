"""The kernel that begins a step: it counts it, and forms the hyperparameters of every tensor."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import triton
import triton.language as tl

from sphere_fused.rule import Hyper

# What is in a row of the tables. Of a tensor, addresses first, in 64-bit integers; PARTS and
# RECORDS are where those of its sums are kept that pass from launch to launch.
W, M, V, S, RADIUS, STEP = (tl.constexpr(i) for i in range(6))
OUTER, DIM, INNER, GROUP, DECAYS, SHAPE, PARTS, SURVEY, RECORDS, COUNT = (
    tl.constexpr(i) for i in range(6, 16)
)
TENSOR_FIELDS = tl.constexpr(16)
# Of a group, in doubles:
LR, BETA1, LEFT1, GAIN1, BETA2, LEFT2, BETA3, LEFT3, EPS, DECAY, DECOUPLED, CLIP = (
    tl.constexpr(i) for i in range(12)
)
AHEAD_M, AHEAD_G, CORRECTS, MAXIMIZE, SCALE = (tl.constexpr(i) for i in range(12, 17))
GROUP_FIELDS = tl.constexpr(17)
# Of a survey, in doubles: sums over a whole tensor, or over what a program has seen of it, and the
# largest peak.
WW, WG, GG, MOST, WX, XX, SW, SX = (tl.constexpr(i) for i in range(8))
RECORD_FIELDS = tl.constexpr(8)
# Addresses of numbers that are on the GPU, or 0: lr in float, in double, grad_scale, found_inf.
PLACES = tl.constexpr(4)
# Of a tensor's hyperparameters, in doubles: those of Hyper, whether it is to be stepped, and those
# of the rule's own, which also end a group's row.
SHARED = [field for field in Hyper._fields if field != "own"]
ACTIVE = tl.constexpr(len(SHARED))
VERDICT = tl.constexpr(SHARED.index("verdict"))
HYPER_FIELDS = tl.constexpr(len(SHARED) + 1)


def hyper_type(own: tuple[str, ...]) -> Any:
    """rule.Hyper as kernels have it: h.own.NAME is h.own_NAME, because not every Triton passes on a
    tuple in a tuple."""
    return namedtuple("Hyper", [*SHARED, *(f"own_{name}" for name in own)])


Shared = hyper_type(())


@triton.jit
def number_at(addresses, kind: tl.constexpr, other):
    """The numbers at these addresses; `other` where there is none."""
    there = addresses != 0
    return tl.where(
        there, tl.load(addresses.to(tl.pointer_type(kind)), there, other=0.0).to(tl.float64), other
    )


@triton.jit
def bias_correction(left, step):
    """1 - beta**step, of left = 1 - beta, by squaring; nothing is subtracted that cancels."""
    found = tl.zeros_like(left)
    while tl.max(step, axis=0) > 0:
        found = tl.where((step & 1) != 0, found + left - found * left, found)
        left = left * (2.0 - left)
        step = step >> 1
    return found


@triton.jit(do_not_specialize=["count"])
def begin(
    tensors, gradients, groups, places, hypers, count, own: tl.constexpr, block: tl.constexpr
):
    """A lane per tensor."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < count
    tensor = tensors + i * TENSOR_FIELDS
    index = tl.load(tensor + GROUP, inside, other=0)
    group = groups + index * (GROUP_FIELDS + own)
    place = places + index * PLACES

    lr = number_at(tl.load(place), tl.float32, tl.load(group + LR))
    lr = number_at(tl.load(place + 1), tl.float64, lr)
    scale = number_at(tl.load(place + 2), tl.float32, tl.load(group + SCALE))
    found_inf = number_at(tl.load(place + 3), tl.float32, tl.zeros_like(lr))
    gradient = tl.load(gradients + i, inside, other=0)
    active = inside & (gradient != 0) & (found_inf == 0.0)

    counter = tl.load(tensor + STEP, inside, other=0)
    counter_at = counter.to(tl.pointer_type(tl.float32))
    counts = active & (counter != 0)
    step = tl.load(counter_at, counts, other=-1.0) + 1.0  # 0 where none is counted
    tl.store(counter_at, step, counts)
    t = step.to(tl.int32)

    corrects = tl.load(group + CORRECTS) != 0.0
    bc1 = tl.where(corrects, bias_correction(tl.load(group + LEFT1), t), 1.0)
    bc2 = tl.where(corrects, bias_correction(tl.load(group + LEFT2), t), 1.0)
    root = tl.sqrt(bc2)
    eps = tl.load(group + EPS)
    decay = tl.load(group + DECAY)
    decays = tl.load(tensor + DECAYS, inside, other=0) != 0
    decoupled = tl.load(group + DECOUPLED) != 0.0
    dim = tl.load(tensor + DIM, inside, other=1).to(tl.float64)
    segments = tl.load(tensor + OUTER, inside, other=1) * tl.load(tensor + INNER, inside, other=1)
    h = Shared(
        lr=lr,
        beta1=tl.load(group + BETA1),
        gain1=tl.load(group + GAIN1),
        beta2=tl.load(group + BETA2),
        gain2=tl.load(group + LEFT2),
        beta3=tl.load(group + BETA3),
        gain3=tl.load(group + LEFT3),
        bc1=bc1,
        bc2=bc2,
        bc3=bias_correction(tl.load(group + LEFT3), t),
        t=step.to(tl.float64),
        eps=eps,
        weight_decay=decay,
        decay=tl.where(decays & decoupled, 1.0 - lr * decay, 1.0),
        grad_clip=tl.load(group + CLIP),
        dim=dim,
        sqrt_dim=tl.sqrt(dim),
        numel=segments.to(tl.float64) * dim,
        l2=tl.where(decays & (decoupled == 0), decay, 0.0),
        unscale=tl.where(tl.load(group + MAXIMIZE) != 0.0, -1.0, 1.0) / scale,
        x_m=tl.load(group + AHEAD_M) * root / bc1,
        x_g=tl.load(group + AHEAD_G) * root / bc1,
        x_eps=eps * root,
        verdict=tl.zeros_like(lr) + 1.0,
    )
    hyper = hypers + i * (HYPER_FIELDS + own)
    for k in tl.static_range(ACTIVE):
        tl.store(hyper + k, h[k], active)
    tl.store(hyper + ACTIVE, active.to(tl.float64), inside)
    for k in tl.static_range(own):
        tl.store(hyper + HYPER_FIELDS + k, tl.load(group + GROUP_FIELDS + k), active)
