"""Parameter shapes of real models, as data, and some made to be hard."""

from __future__ import annotations

Shape = tuple[int, ...]
Shapes = list[Shape]


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


def mobilenet_v3_large() -> Shapes:
    """The MobileNetV3-Large of torchvision; depthwise filters have 9 or 25 weights."""
    shapes: Shapes = [(16, 3, 3, 3), (16,), (16,)]
    before = 16
    # Kernel, channels that the depthwise filters see, channels after, squeeze-and-excitation's.
    blocks = [(3, 16, 16, 0), (3, 64, 24, 0), (3, 72, 24, 0), (5, 72, 40, 24), (5, 120, 40, 32)]
    blocks += [(5, 120, 40, 32), (3, 240, 80, 0), (3, 200, 80, 0), (3, 184, 80, 0)]
    blocks += [(3, 184, 80, 0), (3, 480, 112, 120), (3, 672, 112, 168), (5, 672, 160, 168)]
    blocks += [(5, 960, 160, 240), (5, 960, 160, 240)]
    for kernel, inside, after, squeezed in blocks:
        if inside != before:
            shapes += [(inside, before, 1, 1), (inside,), (inside,)]
        shapes += [(inside, 1, kernel, kernel), (inside,), (inside,)]
        if squeezed:
            shapes += [(squeezed, inside, 1, 1), (squeezed,)]
            shapes += [(inside, squeezed, 1, 1), (inside,)]
        shapes += [(after, inside, 1, 1), (after,), (after,)]
        before = after
    shapes += [(960, before, 1, 1), (960,), (960,)]
    return [*shapes, (1280, 960), (1280,), (1000, 1280), (1000,)]


def vit_b16(layers: int = 12, width: int = 768, patches: int = 14 * 14) -> Shapes:
    """The ViT-B/16 of torchvision for ImageNet."""
    block: Shapes = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    shapes: Shapes = [(1, 1, width), (width, 3, 16, 16), (width,), (1, patches + 1, width)]
    return [*shapes, *(layers * block), (width,), (width,), (1000, width), (1000,)]


def llama_layer(width: int, hidden: int, kv: int) -> Shapes:
    shapes: Shapes = [(width, width), (kv, width), (kv, width), (width, width), (width,), (width,)]
    return [*shapes, (hidden, width), (hidden, width), (width, hidden)]


def llama_1b() -> Shapes:
    """Llama 3.2 1B, whose head shares its embedding."""
    return [(128256, 2048), *(16 * llama_layer(2048, 8192, 512)), (2048,)]


MODELS: dict[str, Shapes] = {
    "GPT-2 124M": gpt2(),
    "ResNet-50": resnet50(),
    "CIFAR ResNet-20": cifar_resnet20(),
    "MobileNetV3": mobilenet_v3_large(),
    "ViT-B/16": vit_b16(),
    "Llama 3 8B, one layer": llama_layer(4096, 14336, 1024),
    "Llama 3.2 1B": llama_1b(),
    "embedding of 1 GB": [(131072, 2048)],
}
# Whose steps are over before a GPU is busy: what counts is what Python and the host cost.
SMALL_MODELS: dict[str, Shapes] = {
    "1,000 tensors of 64": [(64,)] * 1000,
    "1,000 filters of 8x8": [(8, 8)] * 1000,
    "465 groups of one tensor": [(64, 3, 3)] * 465,
    "300 tensors": [(64, 64), (64,)] * 150,
}
