"""The benchmark: on tiny shapes, and on planted numbers."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sphere_fused import bench, plan
from sphere_fused.bench import (
    cases,
    check,
    contenders,
    counting,
    limits,
    overview,
    peers,
    run,
    shapes,
)
from sphere_fused.bench.cases import EVERYONE, TINY_MODEL, Case
from sphere_fused.bench.family import MEMBERS, ON_CHIP
from sphere_fused.bench.names import (
    BASE,
    BASE_W,
    COMPILED,
    COPY,
    HEAVYBALL,
    HYPERBALL,
    OURS,
    REFERENCE,
    STREAM,
)
from sphere_fused.bench.report import sections_of
from sphere_fused.bench.targets import ON_CPU, ON_GPU, Target, judged
from sphere_fused.optim import OPTIMIZERS

TINY = Case("models, float32", "tiny", TINY_MODEL, (COPY, OURS, BASE, REFERENCE), rounds=3)
SLOW = (COMPILED, HEAVYBALL, HYPERBALL)  # to begin: they compile
OF_THE_FAMILY = {name for case in cases.family_on_cpu() for name in case.contenders}
CHECKED = Path(__file__).parent.parent / "benchmarks" / "results" / "check.json"


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a run of tiny cases on the CPU."""
    small = TINY._replace(section="small, float32", name="465 groups of one tensor")
    half = TINY._replace(section="models, bfloat16", dtype="bfloat16")
    monkeypatch.setitem(run.SUITES, "cpu", {"models": lambda: [TINY, half, small]})
    written = tmp_path / "tiny.json"
    assert bench.main(["--device", "cpu", "--json", str(written)]) == 0
    return json.loads(written.read_text())


# Published counts: torchvision's tables, the papers or model cards of the others.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("GPT-2 124M", 124_439_808),
        ("ResNet-50", 25_557_032),
        ("CIFAR ResNet-20", 272_474),
        ("MobileNetV3", 5_483_032),
        ("ViT-B/16", 86_567_656),
        ("Llama 3.2 1B", 1_235_814_400),
        # Of the 8B model: all but embedding, head and the last norm, over 32 layers.
        ("Llama 3 8B, one layer", (8_030_261_248 - 2 * 128_256 * 4096 - 4096) // 32),
        ("embedding of 1 GB", 2**30 // 4),
    ],
)
def test_models_have_as_many_parameters_as_is_published(name: str, count: int) -> None:
    assert sum(map(math.prod, shapes.MODELS[name])) == count


def test_every_case_has_a_name_of_its_own() -> None:
    for suites in cases.SUITES.values():
        named = [(c.section, c.name) for make in suites.values() for c in make()]
        assert len(named) == len(set(named))


@pytest.mark.parametrize(("device", "targets"), [("cpu", ON_CPU), ("cuda", ON_GPU)])
def test_targets_are_of_cases_and_contenders_that_are_timed(
    device: str, targets: list[Target]
) -> None:
    timed = {
        (c.section, c.name): c.contenders for make in cases.SUITES[device].values() for c in make()
    }
    for target in targets:
        assert {target.above, target.below} <= set(timed[target.section, target.case])


def test_every_optimizer_is_timed_and_told_of() -> None:
    assert {optimizer.__name__ for optimizer in OPTIMIZERS} <= set(MEMBERS) <= OF_THE_FAMILY
    assert [overview.member_of(title) for title in overview.TOLD] == list(MEMBERS)


@pytest.mark.parametrize("name", sorted({*EVERYONE, *OF_THE_FAMILY} - {*SLOW}))
def test_a_contender_steps_or_says_why_not(name: str) -> None:
    made, others = contenders.make(TINY._replace(contenders=(name,)), "cpu")
    if name in others:
        assert others[name].get("absent"), others[name]
        return
    params = [torch.randn(4, 3, 5).requires_grad_(), torch.randn(4).requires_grad_()]
    for p in params:
        p.grad = torch.randn_like(p)
    before = [p.detach().clone() for p in params]
    gradients = [p.grad for p in params]
    case = Case("", "", [], (), channel_dims=(0,))
    if name in cases.LIMITS:
        made[name].step()
        return
    contender = contenders.contender(name, case, "cpu", params)
    for _ in range(2):
        contender.step()
        assert not any(torch.equal(p, q) for p, q in zip(params, before, strict=True))
        before = [p.detach().clone() for p in params]
    # Those that step next find the gradients that they were made for.
    assert all(p.grad is g for p, g in zip(params, gradients, strict=True))


def test_a_peer_that_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "version", lambda name: None)
    _, others = contenders.make(TINY._replace(contenders=(HEAVYBALL,)), "cpu")
    assert others[HEAVYBALL] == {"absent": "pip install heavyball"}


def test_the_stream_takes_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    stand_in = SimpleNamespace(stream=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(plan, "compiled", stand_in)
    contenders.streaming(20 * 1000)()
    ((w, g, m, count, threads),) = calls
    assert len({w, g, m}) == 3
    assert (count, threads) == (1000, torch.get_num_threads())


def test_a_long_copy_is_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "LARGEST_BUFFER", 4000)
    assert contenders.pieces(10_000, 4) == (10, 1000)


def test_state_is_measured() -> None:
    """8 bytes per weight of Adam's, and 4 for the step of each tensor; of ours 4, and one second
    moment for each of the filters, and for each element of what is no filter."""
    made, _ = contenders.make(TINY, "cpu")
    filters, others, weights, tensors = 8 + 10, 8, TINY.elements(), len(TINY_MODEL)
    assert counting.state_bytes(made[BASE].state) == 8 * weights + 4 * tensors
    assert counting.state_bytes(made[OURS].state) == 4 * (weights + filters + others + tensors)


def test_storages_count_once() -> None:
    whole = torch.zeros(10)
    assert counting.state_bytes({"a": whole[:5], "b": [whole[5:], (whole,)], "c": 1}) == 40


def test_temporaries_and_operators_are_counted() -> None:
    x = torch.zeros(1000)

    def step() -> None:
        for _ in range(2):
            y = x + 1  # 4,000 bytes
            x.copy_(y * y)  # as many

    found = counting.counted(contenders.Contender(step), "cpu", elements=1000)
    assert found["operators"] == 6
    assert 8.0 <= found["temporary_bytes_per_weight"] <= 12.1  # y of the turn before may live


def test_traffic_is_what_must_move() -> None:
    case = Case("", "", [(10, 5), (7,)], ())
    assert case.traffic(OURS) == case.traffic(COPY) == 50 * 20 + 7 * 28
    assert case.traffic(BASE) == 57 * 28
    half = case._replace(dtype="bfloat16")
    assert half.traffic(OURS) == 50 * 14 + 7 * 22
    assert half.traffic(BASE) == 57 * 14


@pytest.mark.parametrize(
    ("name", "float32", "bfloat16"),
    [  # per weight where a tensor stays on the chip, and where it does not
        ("AdamSRT", (20, 20), (14, 14)),
        ("RotationalLion", (20, 20), (14, 14)),
        ("NormAdamW", (28, 28), (22, 22)),
        ("AdamP by filter", (28, 28), (22, 22)),
        ("AdamP", (28, 36), (22, 26)),
        ("AdamH", (28, 40), (22, 32)),
        ("LAMB", (28, 40), (22, 32)),
        ("SGDP", (20, 28), (14, 18)),
        ("LARS", (20, 28), (14, 18)),
    ],
)
def test_traffic_of_the_family(
    name: str, float32: tuple[int, int], bfloat16: tuple[int, int]
) -> None:
    for dtype, known in (("float32", float32), ("bfloat16", bfloat16)):
        for elements, each in zip((1000, ON_CHIP), known, strict=True):
            case = Case("", "", [(elements // 10, 10)], (), dtype)
            assert case.traffic(name) == case.traffic(f"{name}, reference")
            assert case.traffic(name) == each * case.elements()
    assert Case("", "", [(7,)], ()).traffic("AdamP, adamp") == 7 * 28


def test_all_optimizers_in_one_table() -> None:
    rows = {
        name: {"wall_ms": {"median": ms}, "ratio_to_base": ms / 10, "share_of_stream": 0.5}
        for name, ms in {BASE_W: 10.0, "NormAdamW": 11.0, "NormAdamW, reference": 99.0}.items()
    }
    case = "ResNet-50, fixed radius"
    result = {"cases": {cases.FAMILY_SECTION: {case: {"rows": rows}}}}
    lines = overview.optimizers(result).splitlines()
    assert len(lines) == 2 + len(MEMBERS) + 1
    (line,) = (line for line in lines if line.startswith("| `NormAdamW` |"))
    assert line.endswith("| 28 | 8 | 1.10 |")
    (line,) = overview.family(result)[3:]
    assert line == "| NormAdamW |  |  |  | 11 (1.10) | 50% | 9 | reference |"
    assert overview.family({"cases": {}}) == []


def test_a_run_tells_everything(result: dict[str, Any]) -> None:
    assert result["about"]["torch"] == torch.__version__
    rows = result["cases"]["models, float32"]["tiny"]["rows"]
    assert set(rows) == set(TINY.contenders)
    for name, row in rows.items():
        assert row["rounds"] == 3
        assert row["wall_ms"]["q1"] <= row["wall_ms"]["median"] <= row["wall_ms"]["q3"]
        assert row["bytes"] > 0
        assert row["ratio_to_base"] > 0
        assert row["share_of_copy"] > 0
        assert {"operators", "state_bytes_per_weight", "temporary_bytes_per_weight"} <= set(row)
        assert ("host_ms" in row) == (name != COPY)
        assert "device_ms" not in row
    assert rows[OURS]["operators"] == 0
    assert rows[BASE]["ratio_to_base"] == 1
    met = [t for t in result["targets"] if t["met"] is not None]
    assert met == [t for t in result["targets"] if t["case"].startswith("465 groups")]


def test_reports(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    one, figure = tmp_path / "tiny.json", tmp_path / "figure.png"
    gpu = tmp_path / "gpu.json"  # as make gpu writes them
    phases = {"build": {"status": "passed", "seconds": 1.0}}
    gpu.write_text(
        json.dumps(
            {"environment": {"device": "H"}, "phases": phases, "benchmark": result, "targets": []}
        )
    )
    assert bench.main(["report", str(one), "--figure", str(figure)]) == 0
    assert figure.stat().st_size > 10_000
    text = capsys.readouterr().out
    assert f"\n  {OURS} " in text
    assert "operators" in text
    assert bench.main(["report", str(one), str(gpu), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("| H |")
    tables = [line for line in lines if line.startswith("|")]
    assert any(line.startswith("| tiny, bfloat16") for line in tables)
    readme = tmp_path / "README.md"
    marked = "<!-- optimizers -->\nold\n<!-- /optimizers -->\n"
    readme.write_text(f"Before.\n<!-- measured -->\nold\n<!-- /measured -->\nAfter.\n{marked}")
    for _ in range(2):  # again as at first
        assert bench.main(["report", str(one), "--into", str(readme)]) == 0
    written = readme.read_text()
    assert written.startswith("Before.\n<!-- measured -->\nMeasured on: ")
    assert "\n<!-- /measured -->\nAfter.\n<!-- optimizers -->\n| optimizer |" in written
    assert written.endswith(" |\n<!-- /optimizers -->\n")
    assert written.count("| tiny, bfloat16") == 2
    readme.write_text("<!-- measured -->\n<!-- /measured -->\n")
    with pytest.raises(SystemExit, match="no lines <!-- optimizers --> and"):
        bench.main(["report", str(one), "--into", str(readme)])
    assert readme.read_text() == "<!-- measured -->\n<!-- /measured -->\n"
    with pytest.raises(SystemExit, match="no result"):
        bench.main(["report", str(tmp_path / "none.json")])


def test_an_error_costs_only_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise ValueError("no such luck\nand more")

    monkeypatch.setitem(contenders.OPTIMIZERS, BASE, broken)
    found = run.one_case(TINY, "cpu")
    assert run.errors_of(found) == ["ValueError: no such luck\nand more"]
    assert "wall_ms" in found["rows"][OURS]
    assert "ratio_to_base" not in found["rows"][OURS]


def test_a_contender_that_needs_too_much_memory_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case("", "", [(2**28,)], (COPY, STREAM, OURS, BASE))  # a GiB of weights
    monkeypatch.setattr(run, "free_memory", lambda device: limits.MEMORY_KEPT + 4 * 2**30)
    fits, absent = run.fitting(case, "cpu")
    assert fits.contenders == (COPY, STREAM, OURS)
    assert absent == {BASE: {"absent": "it needs 1.0 GiB more memory"}}
    monkeypatch.setattr(run, "free_memory", lambda device: None)
    assert run.fitting(case, "cpu") == (case, {})


def test_a_contender_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "PATIENCE", 0.05)
    monkeypatch.setitem(contenders.OPTIMIZERS, BASE, lambda params: time.sleep(5))
    made, others = contenders.make(TINY, "cpu")
    assert BASE not in made
    assert OURS in made
    assert others == {BASE: {"absent": "its first steps took more than 0 s"}}


def test_cases_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = run.chosen(run.parse(["--device", "cpu", "--case", "BFLOAT16", "tensors of"]))
    assert {c.name for c in chosen} == {"GPT-2 124M", "ResNet-50", "1,000 tensors of 64"}
    assert bench.main(["--device", "cpu", "--case", "no such model"]) == 2


def test_a_target_compares_two_times() -> None:
    rows = {OURS: {"wall_ms": {"median": 3.0}}, BASE: {"wall_ms": {"median": 4.0}}}
    sections = {"models, float32": {"tiny": {"rows": rows}}}
    target = Target("models, float32", "tiny", "", "wall", OURS, BASE, 0.75, at_least=False)
    assert judged(target, sections)["met"] is True
    assert judged(target._replace(bound=0.7), sections)["met"] is False
    assert judged(target._replace(time="host"), sections)["met"] is None
    assert judged(target, sections_of({}))["value"] is None


@pytest.mark.parametrize(
    ("ratios", "tries", "passes"),
    [([0.62], 1, True), ([0.9, 0.7, 0.5], 3, True), ([0.7, 0.65, 0.64], 3, False)],
)
def test_a_slower_step_fails_the_check(ratios: list[float], tries: int, passes: bool) -> None:
    verdict = check.judge("tiny", 0.5, iter(ratios).__next__)
    assert (verdict.tries, verdict.passes()) == (tries, passes)
    assert ("**no**" in check.table([verdict])) == (not passes)


def test_every_case_of_the_check_has_a_committed_ratio() -> None:
    assert check.read(CHECKED)[0].keys() == check.checked().keys()


def test_a_busy_machine_commits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = iter([0.5, 0.51, 0.7])
    monkeypatch.setattr(check, "checked", lambda: {"tiny": TINY})
    monkeypatch.setattr(check, "ratio_of", lambda name, case, seconds: next(ratios))
    with pytest.raises(RuntimeError, match=r"tiny: ratios of 0.5, 0.51, 0.7"):
        check.update(tmp_path / "check.json", 1.0)
    assert not (tmp_path / "check.json").exists()


def test_the_check_as_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "checked", lambda: {"tiny": TINY._replace(contenders=(OURS, BASE))})
    monkeypatch.setattr(check, "AGREE", float("inf"))  # as tiny steps hardly do
    path = str(tmp_path / "check.json")
    assert bench.main(["check", path, "--update", "--seconds", "0.02"]) == 0
    written = json.loads((tmp_path / "check.json").read_text())
    for factor, code in ((1e3, 0), (1e-3, 1)):
        ratios = {name: factor * r for name, r in written["ratios"].items()}
        (tmp_path / "check.json").write_text(json.dumps({**written, "ratios": ratios}))
        assert bench.main(["check", path, "--seconds", "0.02"]) == code
    assert "| tiny |" in capsys.readouterr().out
    (tmp_path / "none.json").write_text("[1, 2]")
    for name in ("missing.json", "none.json"):
        assert bench.main(["check", str(tmp_path / name)]) == 2
        assert "no result" in capsys.readouterr().err


def test_the_check_compares_threads_with_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = TINY._replace(contenders=(OURS, BASE))
    monkeypatch.setattr(check, "checked", lambda: {"tiny": tiny, f"tiny, {check.ALL}": tiny})
    written = {"about": {"device": "another, 1234 threads"}, "ratios": {"tiny": 1e6}}
    (tmp_path / "check.json").write_text(json.dumps(written))
    assert bench.main(["check", str(tmp_path / "check.json"), "--seconds", "0.02"]) == 0
    told = capsys.readouterr().out
    assert "committed on another, 1234 threads" in told
    assert f"tiny, {check.ALL}" not in told
