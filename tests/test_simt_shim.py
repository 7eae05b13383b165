"""The shim that runs CUDA kernels on the CPU finds what is wrong with them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from simt import build

SOURCE = build.HERE / "faults.cu"
NAMES = re.findall(r"\{CASE\((\w+)\)", SOURCE.read_text())

RESULTS = {"reads_before_the_write": "NaN", "reads_another_blocks_shared_memory": "NaN"}
ADDRESSES = {
    "reads_past_the_end": "heap-buffer-overflow",
    "writes_past_the_end": "heap-buffer-overflow",
    "lacks_shared_memory": "heap-buffer-overflow",
    "is_misaligned": "misaligned address",
}
RACES = [
    "reads_before_the_write",
    "writes_before_the_read",
    "shuffles_for_order",
    "writes_another_blocks_words",
]
BARRIER = "barrier not reached by all threads in block (0,0,0)"
WARP = "warp operation not reached by all lanes of its mask in block (0,0,0)"
# What is in brackets stands for the line of the source that ends in that comment.
MEETINGS = {
    "leaves_out_a_barrier": [
        BARRIER,
        "thread 0 to 31: waiting in __syncthreads at [leaves_out_a_barrier]",
        "thread 32 to 63: returned",
    ],
    "returns_before_a_barrier": [
        BARRIER,
        "thread 5: returned",
        "thread 6 to 63: waiting in __syncthreads at [returns_before_a_barrier]",
    ],
    "waits_at_two_barriers": [
        BARRIER,
        "thread 0 to 39: waiting in __syncthreads at [waits_at_two_barriers, the first]",
        "thread 40 to 63: waiting in __syncthreads at [waits_at_two_barriers, the second]",
    ],
    "is_not_in_its_mask": [
        "__shfl_sync at [is_not_in_its_mask]: thread 31 of block (0,0,0) "
        "is not in its own mask 0x7fffffff"
    ],
    "reads_a_lane_not_in_its_mask": [
        "__shfl_xor_sync at [reads_a_lane_not_in_its_mask]: thread 0 of block (0,0,0) "
        "reads from lane 16, which is not in its mask 0x0000ffff"
    ],
    "has_lanes_that_are_not_there": [
        "__syncwarp at [has_lanes_that_are_not_there]: thread 64 of block (0,0,0) "
        "has lanes in its mask 0xffffffff that the block has not"
    ],
    "waits_for_a_lane_that_returned": [
        WARP,
        "thread 0 to 30: waiting in __shfl_sync with mask 0xffffffff "
        "at [waits_for_a_lane_that_returned]",
        "thread 31: returned",
    ],
    "waits_for_a_lane_at_a_barrier": [
        WARP,
        "thread 3: waiting in __syncthreads at [waits_for_a_lane_at_a_barrier]",
        "thread 4 to 31: waiting in __syncwarp with mask 0xffffffff "
        "at [waits_for_a_lane_at_a_barrier, the others]",
    ],
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], build.Executable]:
    built: dict[str, build.Executable] = {}

    def get(flavour: str) -> build.Executable:
        if reason := build.unavailable(flavour):
            pytest.skip(reason)
        if flavour not in built:
            output = tmp_path_factory.mktemp("simt") / f"faults_{flavour}"
            built[flavour] = build.compile([SOURCE], output, flavour)
        return built[flavour]

    return get


def with_lines(message: str) -> str:
    """The message, with each [comment] replaced by where that comment is."""

    def line(match: re.Match[str]) -> str:
        lines = SOURCE.read_text().splitlines()
        (number,) = [i for i, x in enumerate(lines, 1) if x.endswith(f"  // {match[1]}")]
        return f"{SOURCE}:{number}"

    return re.sub(r"\[(.+?)\]", line, message)


def test_every_fault_has_a_test() -> None:
    assert set(NAMES) == {*RESULTS, *ADDRESSES, *RACES, *MEETINGS}


@pytest.mark.parametrize("order", build.ORDERS)
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_kernels_without_a_fault_pass(flavour: str, order: str, faults) -> None:
    result = faults(flavour).run("clean", order=order)
    assert result.stdout.splitlines() == [f"{name}: right" for name in NAMES], result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("name", RESULTS)
def test_shared_memory_is_nan_until_it_is_written(name: str, faults) -> None:
    assert "NaN\n" in [faults("asan").run(name, order=order).stdout for order in build.ORDERS]


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_wrong_address_is_found(name: str, faults) -> None:
    result = faults("asan").run(name)
    assert ADDRESSES[name] in result.stderr
    assert result.returncode == build.FAULT


@pytest.mark.parametrize("name", RACES)
def test_a_race_is_found(name: str, faults) -> None:
    for order in build.ORDERS:
        result = faults("tsan").run(name, order=order)
        assert "ThreadSanitizer: data race" in result.stderr
        assert name in result.stderr
        assert "of block (0,0,0)" in result.stderr
        assert result.returncode == build.FAULT


def test_some_races_are_found_by_nothing_else(faults) -> None:
    for order in build.ORDERS:
        assert faults("asan").run("writes_before_the_read", order=order).stdout == "right\n"


@pytest.mark.parametrize("name", MEETINGS)
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_threads_that_do_not_meet_are_named(flavour: str, name: str, faults) -> None:
    result = faults(flavour).run(name)
    for message in MEETINGS[name]:
        assert with_lines(message) in result.stderr
    assert result.returncode == build.FAULT


@pytest.mark.parametrize("what", ["launches", "arithmetic"])
def test_what_kernels_and_their_callers_use(what: str, faults) -> None:
    result = faults("asan").run(what)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_seed_decides_the_order(faults) -> None:
    runs = [faults("asan").run("order", order="seeded", seed=seed).stdout for seed in [1, 1, 2]]
    assert runs[0] == runs[1] != runs[2]
    assert sorted(runs[0].split(), key=int) == [str(i) for i in range(64)]


def test_an_unknown_order_is_refused(faults) -> None:
    result = faults("asan").run("clean", order="sideways")
    assert "SIMT_ORDER is sideways, not forward, reverse or seeded" in result.stderr
    assert result.returncode == build.FAULT


def test_what_is_not_simulated_does_not_compile(faults, tmp_path) -> None:
    faults("asan")
    source = tmp_path / "kernel.cu"
    source.write_text("__global__ void kernel(int* x) { atomicAdd(x, 1); }\n")
    with pytest.raises(RuntimeError, match="atomicAdd"):
        build.compile([source], tmp_path / "kernel", "asan")
