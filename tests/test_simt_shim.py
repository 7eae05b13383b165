"""The shim that runs CUDA kernels on the CPU finds what is wrong with them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from simt import build

KERNELS = [build.HERE / name for name in ("faults.cu", "faults_of_blocks.cu")]
SOURCES = [*KERNELS, build.HERE / "checks.cu"]
NAMES = [name for x in KERNELS for name in re.findall(r"\{CASE\((\w+)\)", x.read_text())]

RESULTS = [
    "reads_before_the_write",
    "reads_another_blocks_shared_memory",
    "reads_a_neighbour_too_early",
]
ADDRESSES = {
    "reads_past_the_end": "heap-buffer-overflow",
    "writes_past_the_end": "heap-buffer-overflow",
    "lacks_shared_memory": "heap-buffer-overflow",
    "is_misaligned": "misaligned address",
    "ends_while_a_neighbour_reads": "heap-use-after-free",
}
RACES = [
    "reads_before_the_write",
    "writes_before_the_read",
    "shuffles_for_order",
    "votes_for_order",
    "waits_with_other_threads",
    "writes_another_blocks_words",
    "reads_a_neighbour_too_early",
    "reads_a_neighbour_before_it_begins",
    "writes_a_message_without_a_fence",
    "reads_a_message_without_a_fence",
    "hands_in_a_part_without_a_fence",
    "writes_what_others_add_to",
]
BARRIER = "barrier not reached by all threads in block (0,0,0)"
NAMED = "named barrier not reached by as many threads as it counts in block (0,0,0)"
MIXED = "threads with another line or count at the same barrier in block (0,0,0)"
CLUSTER = "cluster barrier not reached by all threads of the cluster of block"
ENDLESS = "threads do nothing but sleep, waiting for what never comes"
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
    "leaves_out_a_named_barrier": [
        NAMED,
        "thread 0 to 31: waiting in __barrier_sync_count(1, 64) at [leaves_out_a_named_barrier]",
        "thread 32 to 63: returned",
    ],
    "counts_differently": [
        MIXED,
        "thread 0: waiting in __barrier_sync_count(2, 64) at [counts_differently]",
        "thread 1: waiting in __barrier_sync_count(2, 32) at [counts_differently]",
        "thread 2 to 63: running",
    ],
    "waits_at_one_barrier_in_two_lines": [
        MIXED,
        "thread 0: waiting in __barrier_sync_count(3, 32) "
        "at [waits_at_one_barrier_in_two_lines, the second]",
        "thread 1: waiting in __barrier_sync_count(3, 32) "
        "at [waits_at_one_barrier_in_two_lines, the first]",
    ],
    "counts_half_a_warp": [
        "__barrier_sync_count at [counts_half_a_warp]: thread 0 of block (0,0,0) "
        "counts 48, not a multiple of 32 up to the block's 96"
    ],
    "counts_more_than_the_block": [
        "__barrier_sync_count at [counts_more_than_the_block]: thread 0 of block (0,0,0) "
        "counts 96, not a multiple of 32 up to the block's 64"
    ],
    "has_too_many_barriers": [
        "__barrier_sync_count at [has_too_many_barriers]: thread 0 of block (0,0,0) "
        "has no barrier 16"
    ],
    "uses_barrier_0_for_two_things": [
        "barrier 0 used in two ways in block (0,0,0)",
        "thread 0: waiting in __syncthreads at [uses_barrier_0, the block]",
        "thread 1: waiting in __barrier_sync_count(0, 32) at [uses_barrier_0, the threads]",
    ],
    "is_not_in_its_mask": [
        "__shfl_sync at [is_not_in_its_mask]: thread 31 of block (0,0,0) "
        "is not in its own mask 0x7fffffff"
    ],
    "votes_outside_its_mask": [
        "__any_sync at [votes_outside_its_mask]: thread 16 of block (0,0,0) "
        "is not in its own mask 0x0000ffff"
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
    "leaves_out_a_cluster_barrier": [
        f"{CLUSTER} (0,0,0)\n"
        "block (0,0,0)\n"
        "  thread 0 to 63: waiting in cluster.sync at [leaves_out_a_cluster_barrier]\n"
        "block (1,0,0)\n"
        "  thread 0 to 9: waiting in cluster.sync at [leaves_out_a_cluster_barrier]\n"
        "  thread 10 to 63: returned\n",
    ],
    "waits_at_two_cluster_barriers": [
        CLUSTER,
        "block (0,0,0)\n  thread 0 to 63: waiting in cluster.sync "
        "at [waits_at_two_cluster_barriers, the first]\n",
        "block (1,0,0)\n  thread 0 to 63: waiting in cluster.sync "
        "at [waits_at_two_cluster_barriers, the second]\n",
    ],
    "asks_for_a_block_that_is_not_there": [
        "map_shared_rank at [asks_for_a_block_that_is_not_there]: thread 0 of block (0,0,0) "
        "asks for block 2 of a cluster of 2"
    ],
    "maps_what_is_not_shared": [
        "map_shared_rank at [maps_what_is_not_shared]: thread 0 of block (0,0,0) "
        "gives an address that is not in its own shared memory"
    ],
    "waits_for_ever": [
        ENDLESS,
        "thread 0 to 32: waiting in __syncthreads at [waits_for_ever, the others]",
        "thread 33: asleep in __nanosleep at [waits_for_ever]",
    ],
    "waits_in_a_vote_for_ever": [
        ENDLESS,
        "thread 0 to 31: returned",
        "thread 32 to 63: asleep in __nanosleep at [waits_in_a_vote_for_ever]",
    ],
    "waits_without_giving_way": [
        "atomicAdd at [waits_without_giving_way]: thread 0 of block (0,0,0) "
        "waits for others and lets none of them run"
    ],
}


@pytest.fixture
def faults(shared_folder: Path) -> Callable[[str], build.Executable]:
    def get(flavour: str) -> build.Executable:
        if reason := build.unavailable(flavour):
            pytest.skip(reason)
        return build.compile_once(SOURCES, shared_folder / f"faults_{flavour}", flavour)

    return get


def with_lines(message: str) -> str:
    """The message, with each [comment] replaced by where that comment is."""

    def line(match: re.Match[str]) -> str:
        (place,) = [
            f"{source}:{number}"
            for source in KERNELS
            for number, x in enumerate(source.read_text().splitlines(), 1)
            if x.endswith(f"  // {match[1]}")
        ]
        return place

    return re.sub(r"\[(.+?)\]", line, message)


def test_every_fault_has_a_test() -> None:
    assert set(NAMES) == {*RESULTS, *ADDRESSES, *RACES, *MEETINGS}


@pytest.mark.parametrize("blocks", [1, 3, 8])
@pytest.mark.parametrize("order", build.ORDERS)
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_kernels_without_a_fault_pass(flavour: str, order: str, blocks: int, faults) -> None:
    result = faults(flavour).run("clean", order=order, blocks=blocks)
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
        assert re.search(r"of block \(\d,0,0\)", result.stderr)
        assert result.returncode == build.FAULT


@pytest.mark.parametrize("name", [x for x in RACES if "message" in x])
def test_a_message_without_a_fence_is_found_between_blocks_that_run_together(name, faults) -> None:
    for order in build.ORDERS:
        result = faults("tsan").run(name, order=order, blocks=4)
        assert "ThreadSanitizer: data race" in result.stderr
        assert "pass_a_message" in result.stderr


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


@pytest.mark.parametrize("what", ["launches", "clusters", "atomics", "arithmetic"])
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_what_kernels_and_their_callers_use(flavour: str, what: str, faults) -> None:
    result = faults(flavour).run(what)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_device_is_what_the_environment_says(faults) -> None:
    result = faults("asan").run("device")
    assert result.stdout == "2 processors\ncapability 9\n"
    assert result.returncode == 0
    result = faults("asan").run("device", processors="3", capability="8")
    assert result.stdout == "3 processors\ncapability 8\n"
    assert result.returncode == 0


@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_blocks_that_wait_for_each_other_must_run_at_the_same_time(flavour: str, faults) -> None:
    for order in build.ORDERS:
        assert faults(flavour).run("grid_barrier", order=order, blocks=4).returncode == 0
        result = faults(flavour).run("grid_barrier", order=order, blocks=3)
        assert result.returncode == build.FAULT
        assert ENDLESS in result.stderr
        for block in range(3):
            assert f"block ({block},0,0)\n  thread 0: asleep in __nanosleep at " in result.stderr


@pytest.mark.parametrize(
    ("what", "order", "blocks", "expected"),
    [
        ("order_of_blocks", "forward", 1, "0 1 2 3 4 5"),
        ("order_of_blocks", "reverse", 1, "0 1 2 3 4 5"),
        ("order_of_blocks", "reverse", 2, "1 2 3 4 5 0"),
        ("order_of_blocks", "reverse", 6, "5 4 3 2 1 0"),
        ("order_of_clusters", "reverse", 1, "1 0 3 2 5 4"),
        ("order_of_clusters", "reverse", 5, "3 2 5 4 1 0"),
    ],
)
def test_blocks_follow_those_that_end(
    what: str, order: str, blocks: int, expected: str, faults
) -> None:
    result = faults("asan").run(what, order=order, blocks=blocks)
    assert result.stdout.split() == expected.split(), result.stderr


def test_the_seed_decides_the_order_of_blocks(faults) -> None:
    runs = {
        faults("asan").run("order_of_blocks", order="seeded", seed=seed, blocks=6).stdout
        for seed in range(5)
    }
    assert len(runs) > 2
    assert all(sorted(run.split()) == ["0", "1", "2", "3", "4", "5"] for run in runs)


@pytest.mark.parametrize("blocks", [0, 9, -1])
def test_an_impossible_number_of_blocks_is_refused(blocks: int, faults) -> None:
    result = faults("asan").run("clean", blocks=blocks)
    assert f"SIMT_BLOCKS is {blocks}, not a number from 1 to 8" in result.stderr
    assert result.returncode == build.FAULT


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
    source.write_text("__global__ void kernel(unsigned* x) { atomicCAS(x, 1, 2); }\n")
    with pytest.raises(RuntimeError, match="atomicCAS"):
        build.compile([source], tmp_path / "kernel", "asan")
