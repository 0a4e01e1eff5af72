"""One launch: two fresh processes whose passes alternate, or one of them after the other.

While one side works, the other waits for a message and uses no CPU time. The order within pairs
alternates (A B B A …), and so does the side that starts, from launch to launch. A pass right after
one of the same side finds warmer caches; the side that starts also ran last before, so that both
sides have equally many such passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Protocol

from profiling.runs.paired.passes import TOTAL
from profiling.runs.paired.requests import Passed, Prepared
from profiling.runs.recording import now
from profiling.statistics.ratios import Logs, take_logs
from profiling.statistics.stopping import Settling

PASSES, LAUNCHES = "passes", "launches"
SIDES = ("a", "b")

Times = Mapping[str, float]


class Runner(Protocol):
    """What a launch asks of a side."""

    @property
    def pid(self) -> int: ...
    def weigh(self) -> int | None: ...
    def start_loading(self) -> None: ...
    def await_loaded(self) -> Prepared: ...
    def begin(self, position: int) -> None: ...
    def run_pass(self) -> Passed: ...
    def close(self) -> None: ...
    def kill(self) -> None: ...


class Gate(Protocol):
    """What says afterwards whether the machine was quiet."""

    @property
    def reason(self) -> str | None: ...


Start = Callable[[str], Runner]
Watch = Callable[[Mapping[str, Runner], Mapping[str, Prepared]], AbstractContextManager[Gate]]
# From the seconds that starting took and those that a pair takes, how many pairs to run.
CountPairs = Callable[[float, float], int]
# The same once that many were run, from their log ratios too.
ExtendPairs = Callable[[Logs, float, float], int]


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """When a side counts as warmed up."""

    window: int
    tolerance: float
    cap: int
    time_budget_s: float

    def rule(self) -> Settling:
        return Settling(
            window=self.window,
            tolerance=self.tolerance,
            cap=self.cap,
            time_budget_s=self.time_budget_s,
        )


@dataclass(kw_only=True)
class SideLog:
    """What one side did in a launch: the seconds of every pass by phase, and the batches."""

    load_s: float
    warmup: list[float] = field(default_factory=list)
    times_s: dict[str, list[float]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0

    @property
    def idle_share(self) -> float:
        """The share of a core that the process used while it waited for its turn."""
        return self.idle_cpu_s / self.idle_s if self.idle_s else 0.0

    def add(self, passed: Passed) -> None:
        for phase, seconds in passed.times_s.items():
            self.times_s.setdefault(phase, []).append(seconds)
        self.batches.append(passed.batch)
        self.idle_s += passed.idle_s
        self.idle_cpu_s += passed.idle_cpu_s


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The passes of both sides in one launch; pass number n of one belongs to n of the other."""

    number: int
    first: str
    interleaved: str
    sides: Mapping[str, SideLog]
    start_s: float
    took_s: float
    started_at: str
    noise: str | None

    @property
    def pairs(self) -> int:
        return len(self.sides["a"].batches)

    @property
    def pair_s(self) -> float:
        return sum(median(side.times_s[TOTAL]) for side in self.sides.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Launch:
        sides = {name: SideLog(**content["sides"][name]) for name in SIDES}
        return cls(**{**content, "sides": sides})


def order_sides(number: int) -> tuple[str, str]:
    """The sides in the order in which a launch starts them."""
    return ("a", "b") if number % 2 else ("b", "a")


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How a launch is run. It begins at `position` in the shuffled order of the batches."""

    position: int
    start: Start
    watch: Watch
    warm_up: WarmUp
    count_pairs: CountPairs
    extend_pairs: ExtendPairs
    now_s: Callable[[], float]

    def run(self, number: int, *, interleaved: str) -> Launch:
        run = self._alternate_passes if interleaved == PASSES else self._alternate_launches
        started_at, begun = now(), self.now_s()
        sides, start_s, noise = run(number)
        return Launch(
            number=number,
            first=order_sides(number)[0],
            interleaved=interleaved,
            sides=sides,
            start_s=start_s,
            took_s=self.now_s() - begun,
            started_at=started_at,
            noise=noise,
        )

    def _alternate_passes(self, number: int) -> tuple[dict[str, SideLog], float, str | None]:
        begun, order = self.now_s(), order_sides(number)
        runners: dict[str, Runner] = {}
        try:
            for name in order:
                runners[name] = self.start(name)
            for name in order:
                runners[name].start_loading()
            prepared = {name: runners[name].await_loaded() for name in order}
            logs = {name: SideLog(load_s=prepared[name].load_s) for name in SIDES}
            pair_s = self._warm_up(runners, logs, order)
            start_s = self.now_s() - begun
            pairs = self.count_pairs(start_s, pair_s)
            for name in reversed(order):
                runners[name].begin(self.position)
            with self.watch(runners, prepared) as gate:
                _run_pairs(range(pairs), runners, logs, order)
                ratios = take_logs(*(logs[name].times_s[TOTAL] for name in SIDES))
                wanted = self.extend_pairs(ratios, start_s, pair_s)
                _run_pairs(range(pairs, wanted), runners, logs, order)
            for runner in runners.values():
                runner.close()
        finally:
            for runner in runners.values():
                runner.kill()
        return logs, start_s, describe_noise(gate, logs)

    def _warm_up(
        self, runners: Mapping[str, Runner], logs: Mapping[str, SideLog], order: Sequence[str]
    ) -> float:
        """Passes in turn until every side has settled; the seconds that a pair then takes.

        The side that comes first in the order runs last.
        """
        rules = {name: self.warm_up.rule() for name in order}
        while any([rules[name].wants_more(logs[name].warmup) for name in order]):
            for name in reversed(order):
                logs[name].warmup.append(runners[name].run_pass().times_s[TOTAL])
        return sum(median(logs[name].warmup[-self.warm_up.window :]) for name in order)

    def _alternate_launches(self, number: int) -> tuple[dict[str, SideLog], float, str | None]:
        """The second side is started when the process of the first has ended."""
        logs: dict[str, SideLog] = {}
        start_s, pairs, noises = 0.0, None, []
        for name in order_sides(number):
            begun = self.now_s()
            runner = self.start(name)
            try:
                runner.start_loading()
                prepared = runner.await_loaded()
                logs[name] = SideLog(load_s=prepared.load_s)
                pass_s = self._warm_up({name: runner}, logs, [name])
                started_s = self.now_s() - begun
                start_s += started_s
                pairs = pairs or self.count_pairs(2 * started_s, 2 * pass_s)
                runner.begin(self.position)
                with self.watch({name: runner}, {name: prepared}) as gate:
                    for _ in range(pairs):
                        logs[name].add(runner.run_pass())
                noises.append(describe_noise(gate, {name: logs[name]}))
                runner.close()
            finally:
                runner.kill()
        return logs, start_s, "; ".join(dict.fromkeys(filter(None, noises))) or None


def _run_pairs(
    numbers: range, runners: Mapping[str, Runner], logs: Mapping[str, SideLog], order: Sequence[str]
) -> None:
    for number in numbers:
        for name in order if number % 2 == 0 else reversed(order):
            logs[name].add(runners[name].run_pass())


# A side that uses more of a core while it waits disturbs the one that works.
_MOST_IDLE_SHARE = 0.05


def describe_noise(gate: Gate, logs: Mapping[str, SideLog]) -> str | None:
    """What disturbed the launch, in one line."""
    found = [gate.reason] if gate.reason else []
    for name, log in sorted(logs.items()):
        if log.idle_share > _MOST_IDLE_SHARE:
            found.append(f"{name} used {log.idle_share:.0%} of a core while it waited")
    return "; ".join(found) or None
