"""The kernel that begins a step: it counts it, and forms the hyperparameters of every tensor."""

from __future__ import annotations

import triton
import triton.language as tl

from sphere_fused.rule import Hyper

# What is in a row of the tables. Of a tensor, addresses first, in 64-bit integers:
W, M, V, STEP, DIM, OUTER, INNER, GROUP, SHAPE, PARTS = (tl.constexpr(i) for i in range(10))
TENSOR_FIELDS = tl.constexpr(10)
# Of a group, in doubles:
LR, BETA1, LEFT1, GAIN1, BETA2, LEFT2, EPS, DECAY, DECOUPLED, CLIP, SCALE = (
    tl.constexpr(i) for i in range(11)
)
GROUP_FIELDS = tl.constexpr(11)
# Addresses of numbers that are on the GPU, or 0: lr in float, in double, grad_scale, found_inf.
PLACES = tl.constexpr(4)
# Of a tensor's hyperparameters, in doubles: those of Hyper, whether it is to be stepped, and those
# of the rule's own, which also end a group's row.
ACTIVE = tl.constexpr(Hyper._fields.index("own"))
HYPER_FIELDS = tl.constexpr(ACTIVE.value + 1)


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
    step = step.to(tl.int32)

    decay = tl.load(group + DECAY)
    decoupled = tl.load(group + DECOUPLED) != 0.0
    hyper = hypers + i * (HYPER_FIELDS + own)
    tl.store(hyper + 0, lr, active)
    tl.store(hyper + 1, tl.load(group + BETA1), active)
    tl.store(hyper + 2, tl.load(group + GAIN1), active)
    tl.store(hyper + 3, tl.load(group + BETA2), active)
    tl.store(hyper + 4, tl.load(group + LEFT2), active)
    tl.store(hyper + 5, bias_correction(tl.load(group + LEFT1), step), active)
    tl.store(hyper + 6, bias_correction(tl.load(group + LEFT2), step), active)
    tl.store(hyper + 7, tl.load(group + EPS), active)
    tl.store(hyper + 8, tl.where(decoupled, 1.0 - lr * decay, 1.0), active)
    tl.store(hyper + 9, tl.load(group + CLIP), active)
    tl.store(hyper + 10, tl.sqrt(tl.load(tensor + DIM, inside, other=1).to(tl.float64)), active)
    tl.store(hyper + 11, tl.where(decoupled, 0.0, decay), active)
    tl.store(hyper + 12, 1.0 / scale, active)
    tl.store(hyper + ACTIVE, active.to(tl.float64), inside)
    for k in tl.static_range(own):
        tl.store(hyper + HYPER_FIELDS + k, tl.load(group + GROUP_FIELDS + k), active)
