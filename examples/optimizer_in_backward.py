"""Optimizer in backward: a weight is stepped as soon as its gradient is there, which is then freed.

    python examples/optimizer_in_backward.py

The gradients of a model are never all there at once: backward() needs the memory of the largest one
instead of that of all. What looks at all of them together cannot be had then: clipping by their
norm, GradScaler, accumulation over several backward().
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import sphere_fused as sf

STEPS = 20


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = [(nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()) for _ in range(8)]
    return nn.Sequential(*(layer for block in body for layer in block), nn.Linear(256, 10))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(64, 256, generator=generator)
        yield x, x[:, :10].argmax(dim=1)


def group_of(p: Tensor, model: nn.Sequential) -> dict[str, object]:
    """No normalization follows the head, the last layer."""
    is_head = any(p is q for q in model[-1].parameters())
    return {"params": [p], "channel_dims": None if is_head else (0,)}


def gradient_bytes(model: nn.Module) -> int:
    return sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)


def ordinary(model: nn.Sequential) -> int:
    """Trains `model`; returns the bytes of gradients that were there at the same time."""
    optimizer = sf.AdamSRT([group_of(p, model) for p in model.parameters()])
    most = 0
    for x, y in batches():
        nn.functional.cross_entropy(model(x), y).backward()
        most = max(most, gradient_bytes(model))
        optimizer.step()
        optimizer.zero_grad()
    return most


def in_backward(model: nn.Sequential) -> int:
    """The same, with an optimizer for every parameter."""
    optimizers = {p: sf.AdamSRT([group_of(p, model)]) for p in model.parameters()}
    most = 0

    def step(p: Tensor) -> None:
        nonlocal most
        most = max(most, gradient_bytes(model))
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for x, y in batches():
        nn.functional.cross_entropy(model(x), y).backward()
    return most


def main() -> None:
    models = [network(), network()]
    for train, model in zip((ordinary, in_backward), models, strict=True):
        print(f"{train.__name__:<12}at most {train(model) / 1e6:.2f} MB of gradients")
    same = all(torch.equal(p, q) for p, q in zip(*(m.parameters() for m in models), strict=True))
    print(f"weights after {STEPS} steps are the same, bit by bit: {same}")


if __name__ == "__main__":
    main()
