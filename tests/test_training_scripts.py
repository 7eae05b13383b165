"""What training scripts do around an optimizer.

Each script below trains a model. The gradients that its steps were given are recorded, and every
parameter must be where the oracle says.
"""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, known, typical
from oracles.tolerance import IDENTITY, assert_close_to_oracle, assert_same, error
from stepping import make, random
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import parametrizations
from torch.optim import Optimizer, swa_utils
from torch.utils.checkpoint import checkpoint

each = pytest.mark.parametrize("name", REPRESENTATIVES)
EXAMPLE = Path(__file__).parent.parent / "examples" / "optimizer_in_backward.py"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 12),
        nn.LayerNorm(12),
        nn.Linear(12, 3),
    )


def batches(steps: int = 6) -> Iterator[tuple[Tensor, Tensor]]:
    for t in range(steps):
        x = random(8, 2, 5, 5, seed=t)
        yield x, x.mean(dim=(2, 3)).argmax(dim=1)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def plainly(model: nn.Sequential, optimizer: Optimizer) -> None:
    for batch in batches():
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def accumulating(model: nn.Sequential, optimizer: Optimizer) -> None:
    for t, batch in enumerate(batches(12)):
        (loss_of(model, batch) / 3).backward()
        if t % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()


def clipping(clip: Callable[[list[Tensor]], Any]) -> Callable[[nn.Sequential, Optimizer], None]:
    def script(model: nn.Sequential, optimizer: Optimizer) -> None:
        for batch in batches():
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            clip(list(model.parameters()))
            optimizer.step()

    return script


def freezing(model: nn.Sequential, optimizer: Optimizer) -> None:
    """The first layer rests for two steps; the last one starts late."""
    first, last = model[0].weight, model[-1].weight
    last.requires_grad_(False)
    for t, batch in enumerate(batches()):
        first.requires_grad_(t not in (2, 3))
        if t == 2:
            last.requires_grad_()
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        assert (first.grad is None) == (t in (2, 3))
        optimizer.step()


def growing(model: nn.Sequential, optimizer: Optimizer) -> None:
    """A layer is added in mid-training."""
    plainly(model, optimizer)
    added = nn.Linear(3, 3)
    model.append(added)
    optimizer.add_param_group({"params": added.parameters()})
    plainly(model, optimizer)


def through_a_vector(model: nn.Sequential, optimizer: Optimizer) -> None:
    """Parameters become parts of one tensor."""
    plainly(model, optimizer)
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(vector, model.parameters())
    plainly(model, optimizer)


def checkpointing(model: nn.Sequential, optimizer: Optimizer) -> None:
    for x, y in batches():
        optimizer.zero_grad()
        hidden = checkpoint(model[:5], x, use_reentrant=False)
        nn.functional.cross_entropy(model[5:](hidden), y).backward()
        optimizer.step()


def autocasting(model: nn.Sequential, optimizer: Optimizer) -> None:
    for batch in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()


SCRIPTS: dict[str, Callable[[nn.Sequential, Optimizer], None]] = {
    "plainly": plainly,
    "accumulating": accumulating,
    "clip-norm": clipping(lambda params: nn.utils.clip_grad_norm_(params, 0.1, foreach=None)),
    "clip-norm-foreach": clipping(lambda p: nn.utils.clip_grad_norm_(p, 0.1, foreach=True)),
    "clip-value": clipping(lambda params: nn.utils.clip_grad_value_(params, 0.01)),
    "freezing": freezing,
    "growing": growing,
    "through-a-vector": through_a_vector,
    "checkpointing": checkpointing,
    "autocasting": autocasting,
}


def tied() -> nn.Sequential:
    """The same matrix twice."""
    model = network()
    model[6] = nn.Linear(12, 12)
    model.append(nn.Linear(12, 12))
    model[7].weight = model[6].weight
    return model


def weight_normed() -> nn.Sequential:
    model = network()
    parametrizations.weight_norm(model[4])
    parametrizations.spectral_norm(model[0])
    return model


def orthogonal() -> nn.Sequential:
    model = network()
    parametrizations.orthogonal(model[6])
    return model


def channels_last() -> nn.Sequential:
    return network().to(memory_format=torch.channels_last)


def of_two_dtypes() -> nn.Sequential:
    """The first layers in float64."""

    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float()

    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double()

    model = network()
    return nn.Sequential(Wide(), *model[:4].double(), Narrow(), *model[4:])


MODELS = [tied, weight_normed, orthogonal, channels_last, of_two_dtypes]


class Recorded:
    """The optimizer of a model, where its parameters began, and the gradients it was given."""

    def __init__(self, name: str, model: nn.Module, backend: str, **hyper: Any) -> None:
        self.name, self.hyper = name, {**typical(name), **hyper}
        self.starts = {p: p.detach().clone() for p in model.parameters()}
        self.grads: dict[Tensor, list[Tensor | None]] = {}
        self.optimizer = make(name, model.parameters(), backend, **self.hyper)
        self.optimizer.register_step_pre_hook(self.record)

    def record(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                self.starts.setdefault(p, p.detach().clone())
                g = None if p.grad is None else p.grad.clone()
                self.grads.setdefault(p, []).append(g)

    def check(self) -> None:
        assert self.grads
        for p, grads in self.grads.items():
            assert any(g is not None for g in grads)
            assert_close_to_oracle(
                self.name, self.starts[p], grads, p.detach(), self.optimizer.state[p], **self.hyper
            )


@pytest.mark.parametrize("script", SCRIPTS)
@each
def test_scripts(name: str, script: str, backend: str) -> None:
    model = network()
    # Clipped to one value, the gradients of a filter may be all alike: centred, that is rounding.
    alike = known(name, zero_mean=False) if script == "clip-value" else {}
    run = Recorded(name, model, backend, **alike)
    SCRIPTS[script](model, run.optimizer)
    run.check()


@pytest.mark.parametrize("model_of", MODELS, ids=lambda f: f.__name__)
@each
def test_models(name: str, model_of: Callable[[], nn.Sequential], backend: str) -> None:
    model = model_of()
    run = Recorded(name, model, backend)
    assert len(run.starts) == len({id(p) for p in model.parameters()})
    plainly(model, run.optimizer)
    clipping(lambda params: nn.utils.clip_grad_norm_(params, 0.1))(model, run.optimizer)
    run.check()


def test_scripts_do_what_they_say(backend: str) -> None:
    """They end elsewhere than the plain one."""
    ends = {}
    for script in SCRIPTS:
        model = network()
        SCRIPTS[script](model, make("AdamSRT", model.parameters(), backend, lr=0.03))
        ends[script] = model[4].weight.detach()
    same = {s for s, end in ends.items() if torch.equal(end, ends["plainly"])}
    assert same == {"plainly", "checkpointing"}


@pytest.mark.parametrize("kind", ["mean", "exponential"])
@each
def test_averaging(name: str, kind: str, backend: str) -> None:
    """The average takes the model's place for an evaluation after every step."""
    model = network()
    run = Recorded(name, model, backend)
    average = swa_utils.get_ema_multi_avg_fn(0.75) if kind == "exponential" else None
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=average)
    expected = [p.detach().clone() for p in model.parameters()]
    for t, batch in enumerate(batches()):
        run.optimizer.zero_grad()
        loss_of(model, batch).backward()
        run.optimizer.step()
        averaged.update_parameters(model)
        share = 1 / (t + 1) if kind == "mean" or t == 0 else 0.25
        for e, p in zip(expected, model.parameters(), strict=True):
            e.lerp_(p.detach(), share)
        own = copy.deepcopy(model.state_dict())
        model.load_state_dict(averaged.module.state_dict())
        loss_of(model.eval(), batch)
        model.train().load_state_dict(own)
    run.check()
    swa_utils.update_bn([x for x, _ in batches()], averaged)
    for p, e in zip(averaged.module.parameters(), expected, strict=True):
        assert error(p, e) < IDENTITY[torch.float32]


def optimizer_in_backward(
    model: nn.Module, make_one: Callable[[Tensor], Optimizer]
) -> dict[Tensor, Optimizer]:
    """Every parameter gets an optimizer that steps it in backward(), which frees its gradient."""
    optimizers = {p: make_one(p) for p in model.parameters()}
    freed: list[StorageWeakRef] = []

    def step(p: Tensor) -> None:
        assert all(gradient.expired() for gradient in freed), "a gradient is still in memory"
        assert p.grad is not None
        freed[:] = [StorageWeakRef(p.grad.untyped_storage())]
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    return optimizers


@pytest.mark.parametrize("model_of", [network, tied], ids=lambda f: f.__name__)
@each
def test_optimizer_in_backward(
    name: str, model_of: Callable[[], nn.Sequential], backend: str
) -> None:
    """To the bit as one optimizer of all parameters, schedules and checkpoints included."""
    model, plain = model_of(), model_of()
    one = make(name, plain.parameters(), backend, **typical(name))
    each_own = optimizer_in_backward(model, lambda p: make(name, [p], backend, **typical(name)))
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2) for o in (one, *each_own.values())]
    for t, batch in enumerate(batches()):
        loss_of(plain, batch).backward()
        one.step()
        one.zero_grad()
        loss_of(model, batch).backward()
        assert all(p.grad is None for p in model.parameters())
        for schedule in schedules:
            schedule.step()
        if t == 3:
            for optimizer in each_own.values():
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert_same(p.detach(), q.detach())
        assert each_own[p].state[p].keys() == one.state[q].keys()
        for key, value in one.state[q].items():
            assert_same(each_own[p].state[p][key], value, key)


def test_the_example_of_an_optimizer_in_backward(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    spec = importlib.util.spec_from_file_location("optimizer_in_backward", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    sizes = [p.nbytes for p in example.network().parameters()]
    ordinary, in_backward, same = done.stdout.splitlines()
    assert f"at most {sum(sizes) / 1e6:.2f} MB" in ordinary
    assert f"at most {max(sizes) / 1e6:.2f} MB" in in_backward
    assert same.endswith("True")
