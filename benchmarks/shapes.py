"""Parameter shapes of real models, as data."""

from __future__ import annotations

Shapes = list[tuple[int, ...]]


def gpt2(
    layers: int = 12, width: int = 768, vocabulary: int = 50257, context: int = 1024
) -> Shapes:
    """GPT-2; with the defaults the 124M model. The head shares the embedding's weight."""
    block: Shapes = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [(vocabulary, width), (context, width), *(layers * block), (width,), (width,)]


def cifar_resnet20() -> Shapes:
    """The ResNet-20 of He et al. for CIFAR-10, with 1x1 convolutions where the width grows."""
    shapes: Shapes = [(16, 3, 3, 3), (16,), (16,)]
    before = 16
    for width in (16, 32, 64):
        for _ in range(3):
            shapes += [(width, before, 3, 3), (width,), (width,)]
            shapes += [(width, width, 3, 3), (width,), (width,)]
            if before != width:
                shapes += [(width, before, 1, 1), (width,), (width,)]
            before = width
    return [*shapes, (10, 64), (10,)]


MODELS: dict[str, Shapes] = {
    "GPT-2 124M": gpt2(),
    "CIFAR ResNet-20": cifar_resnet20(),
    "1,000 tensors of 64": [(64,)] * 1000,
    "1,000 filters of 8x8": [(8, 8)] * 1000,
}
