"""Batches in rotation: one order for every probe, and what one cycle leaves for the next."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.engines.trace import Timing
from profiling.engines.transformers.optimizations.vision_cache import VisionCache
from profiling.engines.workload import Rotation, Workload
from profiling.probes.latency import LatencyProbe
from profiling.samples.samples import Sample
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import build, take_samples


class Recorded:
    """A workload that writes down which batch ran, and where the engine began a pass."""

    def __init__(self, num_batches: int) -> None:
        self.batches = [()] * num_batches
        self.told: list[str | int] = []
        self.engine = SimpleNamespace(begin_pass=lambda: self.told.append("begin"))

    def run(self, index: int, *, max_new_tokens: int | None = None) -> None:
        self.told.append(index)


def rotate(workload: Any, passes: int) -> list[str | int]:
    batches = Rotation(workload)
    for _ in range(passes):
        batches.run()
    told: list[str | int] = workload.told
    return told


def test_a_pass_begins_with_each_cycle_by_position_and_not_by_batch() -> None:
    told = rotate(Recorded(5), 12)
    assert [place for place, one in enumerate(told) if one == "begin"] == [0, 6, 12]
    # Batch 0 stands elsewhere, where nothing begins.
    assert told[1] != 0
    assert told[told.index(0) - 1] != "begin"


def test_every_batch_has_one_turn_a_cycle_in_the_same_order() -> None:
    told = [one for one in rotate(Recorded(7), 21) if one != "begin"]
    cycles = [told[start : start + 7] for start in (0, 7, 14)]
    assert cycles[0] == cycles[1] == cycles[2] != sorted(map(int, cycles[0]))
    assert Counter(cycles[0]) == Counter(range(7))


def test_two_rotations_begin_with_the_same_order() -> None:
    assert rotate(Recorded(9), 4) == rotate(Recorded(9), 4)
    workload = Recorded(9)
    first, second = Rotation(workload), Rotation(workload)  # type: ignore[arg-type]
    for _ in range(3):
        first.next_batch()
    # Each has turns of its own, whatever the other has run.
    alone = [Rotation(Recorded(9)).next_batch()]  # type: ignore[arg-type]
    assert [second.next_batch()] == alone


@pytest.mark.parametrize("count", [1, 2, 8])
def test_it_is_as_long_as_there_are_batches(count: int) -> None:
    assert len(Rotation(Recorded(count))) == count  # type: ignore[arg-type]


def test_a_timed_turn_says_which_batch_it_was() -> None:
    workload = Recorded(3)
    timing = Timing(latency_s=1.0, phases_s={}, ttft_s=None, tpot_s=None, num_tokens=1)
    workload.run_timed = lambda index: (workload.run(index), timing)[1]  # type: ignore[attr-defined]
    batches = Rotation(workload)  # type: ignore[arg-type]
    found = [batches.run_timed() for _ in range(3)]
    assert [batch for batch, _ in found] == [one for one in workload.told if one != "begin"]
    assert all(one is timing for _, one in found)


# What a picture cache finds


def distinct_pictures(count: int) -> list[Sample]:
    by_picture = {sample.picture.read_bytes(): sample for sample in take_samples(4 * count)}
    chosen = list(by_picture.values())[:count]
    assert len(chosen) == count
    return chosen


class Watched(Workload):
    """Notes after each timed pass how often the cache was asked since its last beginning."""

    def __init__(self, *, cache: Any, **given: Any) -> None:
        super().__init__(**given)
        self.cache = cache
        self.found: list[tuple[int, int]] = []

    def run_timed(self, index: int) -> Timing:
        timing = super().run_timed(index)
        self.found.append((self.cache.hits, self.cache.lookups))
        return timing


def watch(samples: list[Sample]) -> Watched:
    engine = build(compose_point("model=llava", "optimization=vision_cache"))
    (only,) = engine.stack
    assert isinstance(only, VisionCache)
    return Watched(
        cache=only.cache,
        engine=engine,
        batches=[[sample] for sample in samples],
        img_size=112,
        prompt_len=None,
        max_new_tokens=1,
        preload=True,
    )


def measure(workload: Workload, *, warmup: int, repeats: int) -> None:
    probe = LatencyProbe(
        repeats=repeats,
        time_budget_s=60.0,
        relative_target=0.03,
        minimum=repeats,
        maximum=repeats,
        warmup_window=2,
        warmup_tolerance=1e-9,
        warmup_cap=warmup,
    )
    list(probe.measure(workload))


@pytest.mark.parametrize("warmup", slow_except([4, 5, 7], 5))
def test_with_distinct_pictures_no_timed_repeat_finds_one(warmup: int) -> None:
    """Whatever warm-up has looked at, which is no whole cycle."""
    workload = watch(distinct_pictures(5))
    measure(workload, warmup=warmup, repeats=12)
    assert len(workload.found) == warmup + 12
    assert [hits for hits, _ in workload.found] == [0] * (warmup + 12)
    # Looked up once a pass, anew from the first repeat on and at each cycle.
    lookups = [lookups for _, lookups in workload.found[warmup:]]
    assert lookups == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]


@pytest.mark.slow
def test_what_repeats_in_the_samples_is_still_found() -> None:
    samples = distinct_pictures(2)
    workload = watch([*samples, samples[0]])
    measure(workload, warmup=4, repeats=6)
    assert [hits for hits, _ in workload.found[4:]][2::3] == [1, 1]
