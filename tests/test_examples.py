"""The example runs as it is printed, and its optimizer is one like any other."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import skip_unless_available
from oracles.tolerance import IDENTITY, assert_same, error
from stepping import random, random_grads
from torch import Tensor
from torch.optim import Optimizer

import sphere_fused as sf
from sphere_fused.backends import triton
from sphere_fused.check import RuleError
from sphere_fused.rule import Rule, Update

EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_rule.py"


def imported() -> ModuleType:
    spec = importlib.util.spec_from_file_location("custom_rule", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["custom_rule"] = module  # where pickle looks for its class
    spec.loader.exec_module(module)
    return module


example = imported()
AngularAdam = example.AngularAdam


@pytest.mark.parametrize("interpret", [False, True])
def test_the_example_runs(interpret: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpret))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"(\w+), (float\d+): off by", done.stdout))
    both = {"float32", "float64"}
    assert {dtype for name, dtype in tested if name == "reference"} == both
    on_triton = not triton.installed() and (interpret or torch.cuda.is_available())
    assert {dtype for name, dtype in tested if name == "triton"} == (both if on_triton else set())
    assert ("triton is not tested: " in done.stdout) != on_triton
    table = done.stdout.split("ratio\n")[1]
    assert re.search(r"AngularAdam, reference +\d+\.\d+ +\d+\.\d+", table)
    # The interpreter's time would say nothing.
    assert ("triton" in table) == (on_triton and not interpret)


def test_the_example_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its comparison fails for AdamSRT, the optimizer that it started from."""
    monkeypatch.setattr(AngularAdam, "rule", Rule("angular", sf.AdamSRT.rule.step, own=("radius",)))
    assert example.distance("reference", torch.float32, "cpu") > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_its_angles_do_not_depend_on_norms(open_backend: str, dtype: torch.dtype) -> None:
    """Weights ten times as long, with the gradients of a loss that does not notice, turn alike."""
    ends = []
    for scale in (1.0, 10.0):
        w = random(6, 27, seed=1, dtype=dtype).mul_(scale)
        optimizer = AngularAdam([w], lr=0.05, eps=0.0, radius=3.0, backend=open_backend)
        for g in random_grads(w.shape, 10, dtype):
            w.grad = g / torch.linalg.vector_norm(w, dim=1, keepdim=True)
            optimizer.step()
        ends.append(w / torch.linalg.vector_norm(w, dim=1, keepdim=True))
    assert error(*ends) < IDENTITY[dtype]


def pair(seed: int = 1) -> list[Tensor]:
    """Weights of two filters, and a bias."""
    return [random(2, 9, seed=seed), random(2, seed=seed + 1)]


def stepped(optimizer: Optimizer, steps: int = 3, seed: int = 50) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(steps):
        for i, p in enumerate(params):
            p.grad = random(*p.shape, seed=seed + 10 * t + i)
        optimizer.step()


def test_groups_have_radii_of_their_own(open_backend: str) -> None:
    together, alone = pair(), pair()
    optimizer = AngularAdam(
        [{"params": together[:1], "radius": 4.0}, {"params": together[1:]}],
        radius=2.0,
        backend=open_backend,
    )
    later = random(3, 5, seed=9)
    optimizer.add_param_group({"params": [later], "radius": 0.5})
    assert [group["radius"] for group in optimizer.param_groups] == [4.0, 2.0, 0.5]
    stepped(optimizer)

    alone.append(random(3, 5, seed=9))
    for i, (p, radius) in enumerate(zip(alone, (4.0, 2.0, 0.5), strict=True)):
        single = AngularAdam([p], radius=radius, backend=open_backend)
        stepped(single, seed=50 + i)
    for p, q in zip([*together, later], alone, strict=True):
        assert_same(p, q)


def test_a_radius_may_change_between_steps(open_backend: str) -> None:
    p, q = random(2, 9, seed=1), random(2, 9, seed=1)
    changing = AngularAdam([p], radius=1.0, backend=open_backend)
    stepped(changing)
    loaded = AngularAdam([q], radius=5.0, backend=open_backend)
    q.copy_(p)
    state = copy.deepcopy(changing.state_dict())
    state["param_groups"][0]["radius"] = 5.0
    loaded.load_state_dict(state)
    changing.param_groups[0]["radius"] = 5.0
    stepped(changing, seed=99)
    stepped(loaded, seed=99)
    assert_same(p, q)


def test_checkpoints_carry_the_radius(open_backend: str) -> None:
    params = pair()
    optimizer = AngularAdam(params, radius=2.5, backend=open_backend)
    stepped(optimizer)
    copies = [p.clone() for p in params]
    other = AngularAdam(copies, radius=7.0, backend=open_backend)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.param_groups[0]["radius"] == 2.5
    stepped(optimizer, seed=99)
    stepped(other, seed=99)
    for p, q in zip(params, copies, strict=True):
        assert_same(p, q)


def test_a_checkpoint_without_a_radius_leaves_the_one_here() -> None:
    params = pair()
    before = sf.AdamSRT(params)
    stepped(before)
    optimizer = AngularAdam(params, radius=2.5)
    optimizer.load_state_dict(before.state_dict())
    assert optimizer.param_groups[0]["radius"] == 2.5
    stepped(optimizer)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_alike(copied, open_backend: str) -> None:
    optimizer = AngularAdam(pair(), radius=2.5, backend=open_backend)
    stepped(optimizer)
    other = copied(optimizer)
    assert type(other) is AngularAdam
    stepped(optimizer, seed=99)
    stepped(other, seed=99)
    for group, same in zip(optimizer.param_groups, other.param_groups, strict=True):
        assert group["radius"] == same["radius"]
        for p, q in zip(group["params"], same["params"], strict=True):
            assert p is not q
            assert_same(p, q)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, TypeError, r"AngularAdam\(\) needs radius=\.\.\., a hyperparameter of its rule's own"),
        ({"radius": 1.0, "floor": 2.0}, TypeError, r"AngularAdam\(\) has no argument 'floor'"),
        ({"radius": "1"}, TypeError, "radius must be a number, not '1'"),
        ({"radius": None}, TypeError, "radius must be a number, not None"),
        ({"radius": torch.ones(())}, TypeError, "radius must be a number, not tensor"),
        ({"radius": 1.0, "lr": -1.0}, ValueError, "lr must be at least 0"),
        (
            {"radius": 1.0, "backend": "native"},
            RuntimeError,
            "parameter 0 of group 0(.|\n)*native: the rule 'angular' is not compiled in",
        ),
    ],
)
def test_wrong_arguments_are_explained(arguments, kind, message) -> None:
    if arguments.get("backend"):
        skip_unless_available("native")
    with pytest.raises(kind, match=message):
        AngularAdam(pair(), **arguments)


def test_a_group_with_a_wrong_radius_is_refused_whole() -> None:
    optimizer = AngularAdam(pair(), radius=1.0)
    with pytest.raises(TypeError, match="radius must be a number, not 'long'"):
        optimizer.add_param_group({"params": [random(2, 9, seed=9)], "radius": "long"})
    assert len(optimizer.param_groups) == 1


def logarithmic(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=-h.lr * gram.ww**0.5)


def lands_wrongly(gram, y, u, h):
    return Update(s=y.gg, a_w=u.a_w, a_x=u.a_x)


STEP = example.angular
AUTHORS = [
    (Rule("mine", logarithmic), r"is not in the vocabulary(.|\n)*test_examples.py:\d+: return"),
    (Rule("mine", STEP), "function angular: h.own has no radius: declare it"),
    # All of whose functions, or the first, are the package's.
    (Rule("mine", sf.AdamS.rule.step, lands_wrongly), "function lands_wrongly: y has no gg"),
    (Rule("mine", sf.AdamS.rule.step, second_moment=None), "only where second_moment="),
    (Rule("mine", sf.AdamS.rule.step, own=("backend",)), "own has 'backend', which is taken"),
]


@pytest.mark.parametrize(("rule", "message"), AUTHORS)
def test_a_wrong_rule_is_refused_before_anything_changes(rule: Rule, message: str) -> None:
    class Wrong(sf.AdamG):  # which normalizes weights when it is made
        pass

    Wrong.rule = rule
    params = pair()
    with pytest.raises(RuleError, match=message):
        Wrong(params, **{name: 1.0 for name in rule.own if name != "backend"})
    assert all(torch.equal(p, q) for p, q in zip(params, pair(), strict=True))


def test_a_wrong_classic_rule_is_refused() -> None:
    class Wrong(sf.AdamS):
        classic = Rule("mine", logarithmic)

    with pytest.raises(RuleError, match="function logarithmic"):
        Wrong(pair())


class Impostor(sf.AdamS):
    """Has the name of a rule that is compiled in, and another step."""

    rule = Rule("adamsrt", STEP, land=sf.AdamSRT.rule.land, own=("radius",))


def test_a_rule_is_not_taken_for_another_of_its_name() -> None:
    ends = []
    for made, own in (
        (Impostor, {"radius": 0.1}),
        (AngularAdam, {"radius": 0.1}),
        (sf.AdamSRT, {}),
    ):
        params = pair()
        stepped(made(params, **own))
        ends.append(params[0])
    assert_same(ends[0], ends[1])
    assert error(ends[0], ends[2]) > 1e-3


def test_native_does_not_step_a_rule_for_its_name(native: str) -> None:
    with pytest.raises(RuntimeError, match="the rule 'adamsrt' is not compiled in"):
        Impostor([random(2, 9, seed=1)], radius=0.1, backend=native)


def test_adamg_takes_hyperparameters_of_its_own(open_backend: str) -> None:
    class Mine(sf.AdamG):
        rule = Rule("mine", sf.AdamG.rule.step, direction="previous", own=("radius",))

    params, same = pair(), pair()
    stepped(Mine(params, radius=1.0, backend=open_backend))
    stepped(sf.AdamG(same, backend=open_backend))
    for p, q in zip(params, same, strict=True):
        assert_same(p, q)
