"""Runs the launches of a comparison until its interval is narrow enough, and records it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from profiling import PROJECT
from profiling.machine.machine import describe_machine, git_state
from profiling.machine.noise import NoiseLimits
from profiling.models.weights import describe_weights
from profiling.records import (
    FAILED,
    OUT_OF_MEMORY,
    Comparison,
    read_comparison,
    write_comparison,
)
from profiling.runs.paired.estimating import (
    compare_phase,
    describe_launch,
    find_phases,
    take_launch_logs,
)
from profiling.runs.paired.fitting import find_needs, find_shortage, free_bytes
from profiling.runs.paired.launch_files import LaunchFiles
from profiling.runs.paired.opposed import Opposed, find_folder
from profiling.runs.paired.passes import TOTAL
from profiling.runs.paired.side import Side, SideFailed
from profiling.runs.paired.turns import LAUNCHES, PASSES, Gate, Launch, Runner, Turns, WarmUp
from profiling.runs.paired.watching import watch
from profiling.runs.recording import now
from profiling.runs.session import Plan, installed_versions
from profiling.statistics.launches import (
    LEAST_PAIRS,
    choose_pairs,
    count_pairs_needed,
    find_best_pairs,
)
from profiling.statistics.ratios import LEAST_LAUNCHES, Logs, measure_within

# Of the time budget: a launch that takes longer than the first must not cost a later one.
_PLANNED_SHARE = 0.8
# Of a launch's share of the time budget, for each side: slow passes must not use it up.
_WARM_UP_SHARE = 0.25
# Both orders of a pair once.
_FEWEST_PAIRS = 2


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a comparison is measured with."""

    # From the name of a side and its point, a process for it.
    start: Callable[[str, Plan], Runner]
    watch: Callable[..., AbstractContextManager[Gate]]
    free_bytes: Callable[[str], int | None]
    now_s: Callable[[], float]


REAL = Means(
    start=lambda name, plan: Side(name=name, plan=plan),
    watch=watch,
    free_bytes=free_bytes,
    now_s=time.perf_counter,
)


class Comparer:
    """Measures one comparison; finished launches of an interrupted one are used."""

    def __init__(self, opposed: Opposed, *, notify: Callable[[str], None], means: Means) -> None:
        self._opposed = opposed
        self._notify = notify
        self._means = means
        self._folder = find_folder(opposed)
        self._files = LaunchFiles(folder=self._folder, address=opposed.address)
        self._launches, self._reason = self._files.read()
        self._rule = opposed.rule()
        alternating = {launch.interleaved for launch in self._launches}
        self._interleaved = LAUNCHES if LAUNCHES in alternating else PASSES

    def run(self) -> Comparison:
        """Raises `SideFailed` where a side cannot be measured."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            if self._wants_more() and self._interleaved == PASSES:
                self._judge_memory()
            while self._wants_more():
                self._measure(len(self._launches) + 1)
        except SideFailed as failed:
            if failed.traceback:
                (self._folder / "traceback.txt").write_text(failed.traceback, encoding="utf-8")
            raise
        write_comparison(self._folder, self._describe())
        return read_comparison(self._folder)

    # Launches

    def _wants_more(self) -> bool:
        logs = take_launch_logs(self._launches, TOTAL)
        return self._rule.wants_more(logs, self._elapsed_s())

    def _elapsed_s(self) -> float:
        return math.fsum(launch.took_s for launch in self._launches)

    def _measure(self, number: int) -> None:
        planned = self._rule.first
        self._notify(f"launch {number}" + (f" of {planned}" if number <= planned else ""))
        try:
            launch = self._turns(number).run(number, interleaved=self._interleaved)
        except SideFailed as failed:
            if failed.status != OUT_OF_MEMORY or self._interleaved == LAUNCHES:
                raise
            self._interleave_launches(f"both sides at once ran out of memory: {failed.error}")
            return
        if launch.noise and self._opposed.a.point.strict:
            error = f"refused because strict=true and the machine was busy: {launch.noise}"
            raise SideFailed(side="machine", status=FAILED, error=error, traceback=None)
        self._launches.append(launch)
        self._files.write(launch, reason=self._reason)

    def _turns(self, number: int) -> Turns:
        point = self._opposed.a.point
        chosen = point.comparison
        return Turns(
            # Where the last launch ended, however many pairs each had.
            position=sum(launch.pairs for launch in self._launches),
            start=self._start,
            watch=partial(self._means.watch, limits=NoiseLimits(**point.profiler["noise"])),
            warm_up=WarmUp(
                window=chosen["warmup_window"],
                tolerance=chosen["warmup_tolerance"],
                cap=chosen["warmup_cap"],
                time_budget_s=min(chosen["time_budget_s"], _WARM_UP_SHARE * self._share_s),
            ),
            count_pairs=partial(self._count_pairs, number),
            extend_pairs=self._extend_pairs,
            now_s=self._means.now_s,
        )

    def _start(self, name: str) -> Runner:
        return self._means.start(name, self._opposed.plans[name])

    @property
    def _share_s(self) -> float:
        """The time of one of the first launches, so that all of them fit into the budget."""
        return self._divide(self._rule.time_budget_s)

    def _divide(self, budget_s: float) -> float:
        return _PLANNED_SHARE * budget_s / self._rule.first

    def _count_first_pairs(self, launch_s: float, pair_s: float) -> int:
        """As many as fit; where starting alone takes the whole share, as many as are cheap."""
        pairs = choose_pairs(launch_s=launch_s, pair_s=pair_s)
        cheap = max(_FEWEST_PAIRS, min(LEAST_PAIRS, _even(launch_s / pair_s)))
        return max(cheap, min(pairs, _even((self._share_s - launch_s) / pair_s)))

    def _count_pairs(self, number: int, launch_s: float, pair_s: float) -> int:
        """The first launches have equally many, since their spread decides how many follow."""
        if not self._launches:
            return self._count_first_pairs(launch_s, pair_s)
        first = self._launches[0].pairs
        if number <= self._rule.first:
            return first
        found = self._rule.compare(take_launch_logs(self._launches, TOTAL))
        best = find_best_pairs(
            between_launch_sd=found.between_launch_sd or 0.0,
            within_launch_sd=found.within_launch_sd or 0.0,
            launch_s=launch_s,
            pair_s=pair_s,
        )
        left_s = self._rule.time_budget_s - self._elapsed_s() - launch_s
        return max(first, min(best, _even(left_s / pair_s)))

    def _extend_pairs(self, logs: Logs, launch_s: float, pair_s: float) -> int:
        """In the first launch, as many as the spread of its pairs asks for and its share allows.

        That is a share of the time budget also where this does not end a fixed number of launches.
        """
        if self._launches or self._rule.first < LEAST_LAUNCHES:
            return len(logs)
        needed = count_pairs_needed(
            within_launch_sd=measure_within([logs]) or 0.0,
            launches=self._rule.first,
            relative_target=self._rule.relative_target,
        )
        share_s = self._divide(self._opposed.a.point.comparison["time_budget_s"])
        return max(len(logs), min(needed, _even((share_s - launch_s) / pair_s)))

    # Memory

    def _judge_memory(self) -> None:
        needs = [
            find_needs(plan, partial(self._weigh, name))
            for name, plan in self._opposed.plans.items()
        ]
        share = self._opposed.a.point.comparison["memory_share"]
        shortage = find_shortage(*needs, share=share, free=self._means.free_bytes)
        if shortage is not None:
            self._interleave_launches(shortage)

    def _weigh(self, name: str) -> int | None:
        side = self._start(name)
        try:
            return side.weigh()
        finally:
            side.kill()

    def _interleave_launches(self, reason: str) -> None:
        self._interleaved, self._reason = LAUNCHES, reason
        self._notify(f"launches alternate instead of passes: {reason}")

    # The record

    def _describe(self) -> dict[str, Any]:
        phases, left_out = find_phases(self._launches)
        noise = _sum_up_noise(self._launches)
        return {
            "address": self._opposed.address,
            "a": self._opposed.a.fingerprint,
            "b": self._opposed.b.fingerprint,
            **asdict(compare_phase(self._launches, TOTAL, self._rule)),
            "phases": {
                one: asdict(compare_phase(self._launches, one, self._rule)) for one in phases
            },
            "phases_left_out": left_out,
            "stopped_by": "fixed" if self._opposed.is_fixed else self._rule.stopped_by,
            "interleaved": self._interleaved,
            "interleaved_reason": self._reason,
            "noisy": noise is not None,
            "noise_reason": noise,
            **self._describe_surroundings(),
            "by_launch": [describe_launch(launch, phases) for launch in self._launches],
        }

    def _describe_surroundings(self) -> dict[str, Any]:
        plans = self._opposed.plans
        return {
            "same_batches": self._has_same_batches(),
            "settings": self._opposed.settings,
            "labels": dict(self._opposed.labels),
            "configs": {name: plan.point.as_config() for name, plan in plans.items()},
            "weights": {name: describe_weights(plan.point) for name, plan in plans.items()},
            "digests": {name: dict(plan.digests) for name, plan in plans.items()},
            "machine": describe_machine().to_dict(),
            "versions": installed_versions(),
            "git": git_state(PROJECT),
            "started_at": self._launches[0].started_at,
            "finished_at": now(),
        }

    def _has_same_batches(self) -> bool:
        """Whether the two passes of every pair had the same samples."""
        a, b = self._opposed.a, self._opposed.b
        return (
            a.digests["samples"] == b.digests["samples"]
            and a.point.batch_size == b.point.batch_size
            and all(one.sides["a"].batches == one.sides["b"].batches for one in self._launches)
        )


def _sum_up_noise(launches: Sequence[Launch]) -> str | None:
    """How many launches were disturbed, and what the first of them was disturbed by."""
    noisy = [launch for launch in launches if launch.noise]
    if not noisy:
        return None
    first = noisy[0]
    of = f"{len(noisy)} of {len(launches)} launches"
    return f"in {of}; launch {first.number}: {first.noise}"


def _even(pairs: float) -> int:
    """So many, or one less: which side comes first alternates from pair to pair."""
    return max(0, int(min(pairs, 1e9)) // 2 * 2)
