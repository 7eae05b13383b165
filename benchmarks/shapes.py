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


def resnet50() -> Shapes:
    """The ResNet-50 of torchvision for ImageNet."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        after = 4 * width
        for block in range(blocks):
            shapes += [(width, before, 1, 1), (width,), (width,)]
            shapes += [(width, width, 3, 3), (width,), (width,)]
            shapes += [(after, width, 1, 1), (after,), (after,)]
            if block == 0:
                shapes += [(after, before, 1, 1), (after,), (after,)]
            before = after
    return [*shapes, (1000, before), (1000,)]


def llama(
    layers: int = 16, width: int = 2048, hidden: int = 8192, kv: int = 512, vocabulary: int = 128256
) -> Shapes:
    """Llama 3; with the defaults the 1B model of version 3.2, whose head shares its embedding."""
    block: Shapes = [(width, width), (kv, width), (kv, width), (width, width), (width,), (width,)]
    block += [(hidden, width), (hidden, width), (width, hidden)]
    return [(vocabulary, width), *(layers * block), (width,)]


# What `make bench` times on the CPU.
MODELS: dict[str, Shapes] = {
    "GPT-2 124M": gpt2(),
    "CIFAR ResNet-20": cifar_resnet20(),
    "1,000 tensors of 64": [(64,)] * 1000,
    "1,000 filters of 8x8": [(8, 8)] * 1000,
}
# What `make gpu` times.
GPU_MODELS: dict[str, Shapes] = {
    "GPT-2 124M": gpt2(),
    "ResNet-50": resnet50(),
    "CIFAR ResNet-20": cifar_resnet20(),
}
# Here a device of 80 GB has room for the states of two optimizers.
LARGE_MODELS: dict[str, Shapes] = {"Llama 3.2 1B": llama()}
# Whose steps are over before a GPU is busy; what counts is wall and host time.
SMALL_MODELS: dict[str, Shapes] = {
    "CIFAR ResNet-20": cifar_resnet20(),
    "465 groups of one tensor": [(64, 3, 3)] * 465,
    "300 tensors": [(64, 64), (64,)] * 150,
    "1,000 tensors of 64": [(64,)] * 1000,
}
