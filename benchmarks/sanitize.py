"""Every kernel once, on few rows: what `make gpu` runs under compute-sanitizer.

compute-sanitizer --tool memcheck python benchmarks/sanitize.py [--device cpu]
"""

from __future__ import annotations

import argparse

import torch

from sphere_fused.bench.family import MEMBERS

# Shapes on every tier of csrc/cuda/policy.h, of even and odd lengths: with and without vectors.
TILES = [(67, 1), (67, 9), (300, 27), (33, 32)]
ROWS = [
    (9, 33),
    (9, 147),
    (5, 300),
    (5, 600),
    (5, 1030),
    (3, 2000),
    (3, 3001),
    (3, 4100),
    (2, 8192),
]
OF_CLUSTERS = [(2, 9001), (2, 20_000), (1, 40_000)]
LONG = [(2, 70_000), (1, 70_001)]
COLUMNS = [(9, 33), (147, 40), (70, 5), (256, 33)]
LONG_COLUMNS = [(257, 40), (1030, 33)]
STEPS = 2


def parameter(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> torch.Tensor:
    # Made on the CPU: initcheck must see every byte of an input arrive.
    p = torch.randn(shape).to(dtype).to(device).requires_grad_()
    p.grad = torch.randn(shape).to(dtype).to(device)
    return p


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    device = parser.parse_args().device
    torch.manual_seed(0)
    rows, columns = [*TILES, *ROWS, *OF_CLUSTERS, *LONG], [*COLUMNS, *LONG_COLUMNS]
    for name, member in MEMBERS.items():
        for dtype in (torch.float32, torch.bfloat16):
            groups = [
                {"params": [parameter(s, device, dtype) for s in rows]},
                {"params": [parameter(s, device, dtype) for s in columns], "channel_dims": (1,)},
            ]
            optimizer = member.make(groups, backend="native")
            for _ in range(STEPS):
                optimizer.step()
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if not bool(p.detach().cpu().isfinite().all()):
                        print(f"{name} {dtype} {tuple(p.shape)} is not finite")
                        return 1
    print(f"{len(MEMBERS)} optimizers took {STEPS} steps in each of 2 dtypes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
