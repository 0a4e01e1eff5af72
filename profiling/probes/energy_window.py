"""How joules are read off a counter that only moves now and then: windows, idle, update period."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Protocol, runtime_checkable

from profiling.machine.clock import Time

GOLDEN = (math.sqrt(5) - 1) / 2
# Pauses of a window that shift its passes against the instrument.
PAUSES = 2


class Counter(Protocol):
    """Joules of one component since some moment, as an instrument gives them."""

    component: str
    source: str
    longest_window_s: float

    def read_j(self) -> float:
        """Joules so far; never goes back."""
        ...

    def read_mark(self) -> float:
        """A number that changes whenever the instrument brings a new value."""
        ...


@runtime_checkable
class Doubtful(Protocol):
    """A counter that knows by how much it may be off."""

    def read_doubt_j(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a window is filled with: whole passes, each of so many samples.

    Passes may differ from one to the next; a window ends after a multiple of `cycle` passes.
    """

    run: Callable[[], None]
    samples: int
    cycle: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """Joules of one stretch of whole passes, by component."""

    joules: dict[str, float]
    duration_s: float
    samples: int
    # By how much the joules of a component may be off, whatever the other windows say.
    doubt_j: dict[str, float] = field(default_factory=dict)

    def per_sample_j(self, component: str) -> float:
        return self.joules[component] / self.samples


def measure_update_period(
    counter: Counter, *, changes: int, timeout_s: float, time: Time
) -> float | None:
    """Median seconds between two new values; None where too few came before the timeout."""
    moments: list[float] = []
    started_s, mark = time.now_s(), counter.read_mark()
    while len(moments) <= changes:
        fresh, now_s = counter.read_mark(), time.now_s()
        if fresh != mark:
            mark = fresh
            moments.append(now_s)
        if now_s - started_s > timeout_s:
            break
    gaps = [after - before for before, after in pairwise(moments)]
    return median(gaps) if len(gaps) >= 2 else None


def wait_for_update(counter: Counter, *, timeout_s: float, time: Time) -> None:
    """Return right after the counter moved, so that what it shows is not stale."""
    started_s, mark = time.now_s(), counter.read_mark()
    while counter.read_mark() == mark and time.now_s() - started_s < timeout_s:
        pass


@dataclass(kw_only=True)
class Passes:
    """What a window held: whole passes, and the pauses between them."""

    count: int = 0
    paused_s: float = 0.0
    paused_j: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Reads windows off counters, the first of which is slow and sets the pace.

    `shifts` is for an instrument that looks only now and then: where the passes keep step with
    it, it sees the same part of each. Pauses of a random length between stretches of passes then
    let it see others, so that the windows differ by as much as it may be wrong.
    """

    counters: Sequence[Counter]
    period_s: float
    time: Time
    shifts: bool

    def measure_window(
        self, work: Work, *, number: int, at_least_s: float, idle_w: float
    ) -> Window:
        """Whole passes for at least that long.

        Each window starts at another phase of the update period: an instrument that watches
        only part of each period would otherwise see the same part of every pass. The slow
        counter is read right after an update, before and after; what lies between these updates
        and the work is idle.
        """
        updated_s, update_j = self._read_update()
        doubt = self._read_doubts()
        self.time.sleep((number * GOLDEN % 1) * self.period_s)
        started_s, before = self.time.now_s(), self._read_all()
        passes = self._repeat(work, for_s=at_least_s, chance=random.Random(number))
        ended_s, after = self.time.now_s(), self._read_all()
        last_s, last_j = self._read_update()
        joules = {
            name: after[name] - before[name] - passes.paused_j.get(name, 0.0) for name in after
        }
        idle_s = (started_s - updated_s) + (last_s - ended_s) + passes.paused_s
        joules[self.counters[0].component] = last_j - update_j - idle_w * idle_s
        return Window(
            joules=joules,
            duration_s=ended_s - started_s - passes.paused_s,
            samples=passes.count * work.samples,
            doubt_j={name: now - doubt[name] for name, now in self._read_doubts().items()},
        )

    def measure_idle(self, *, seconds: float) -> dict[str, float]:
        """Watts of each component while nothing runs."""
        updated_s, update_j = self._read_update()
        started_s, before = self.time.now_s(), self._read_all()
        self.time.sleep(seconds)
        ended_s, after = self.time.now_s(), self._read_all()
        last_s, last_j = self._read_update()
        watts = {name: (after[name] - before[name]) / (ended_s - started_s) for name in after}
        watts[self.counters[0].component] = (last_j - update_j) / (last_s - updated_s)
        return watts

    def _repeat(self, work: Work, *, for_s: float, chance: random.Random) -> Passes:
        passes, begun_s, worked_s = Passes(), self.time.now_s(), 0.0
        stretch_s = for_s / (PAUSES + 1) if self.shifts else for_s
        pause_at_s = stretch_s
        while passes.count == 0 or worked_s < for_s or passes.count % work.cycle:
            if worked_s >= pause_at_s:
                usual_s = worked_s / passes.count
                self._pause(passes, chance.random() * min(self.period_s, usual_s))
                pause_at_s += stretch_s
            work.run()
            passes.count += 1
            worked_s = self.time.now_s() - begun_s - passes.paused_s
        return passes

    def _pause(self, passes: Passes, seconds: float) -> None:
        started_s, before = self.time.now_s(), self._read_all()
        self.time.sleep(seconds)
        for name, joules in self._read_all().items():
            passes.paused_j[name] = passes.paused_j.get(name, 0.0) + joules - before[name]
        passes.paused_s += self.time.now_s() - started_s

    def _read_doubts(self) -> dict[str, float]:
        return {
            counter.component: counter.read_doubt_j()
            for counter in self.counters
            if isinstance(counter, Doubtful)
        }

    def _read_all(self) -> dict[str, float]:
        return {counter.component: counter.read_j() for counter in self.counters}

    def _read_update(self) -> tuple[float, float]:
        # Three periods without news: the value is steady, and waiting longer tells no more.
        wait_for_update(self.counters[0], timeout_s=3 * self.period_s, time=self.time)
        return self.time.now_s(), self.counters[0].read_j()
