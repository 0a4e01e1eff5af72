"""Sides of a comparison that take planted times on a clock of their own: no process, no torch."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from profiling.runs.paired.comparing import Means
from profiling.runs.paired.requests import Passed, Prepared
from profiling.runs.paired.side import SideFailed
from profiling.runs.session import Plan

BATCHES = 8
# Seconds of a pass by phase, before the planted factor of the side.
PHASES_S = {"vision": 0.01, "decode": 0.03}


@dataclass
class Script:
    """What happens to both sides, and a log of what they did."""

    # By side: a factor on every phase, and on one phase.
    factors: Mapping[str, float] = field(default_factory=lambda: {"a": 1.0, "b": 1.0})
    decode_factors: Mapping[str, float] = field(default_factory=dict)
    # Spread of log times between launches, and from pass to pass.
    between: float = 0.0
    within: float = 0.0
    load_s: float = 2.0
    # How many times as long as usual every pass takes.
    slow: float = 1.0
    # How many times as long the first passes of a process take, one by one.
    cold: tuple[float, ...] = (3.0, 1.5)
    # What stops a side: "loading", or the number of a pass over all launches.
    failures: dict[tuple[str, str | int], SideFailed | BaseException] = field(default_factory=dict)
    weights: Mapping[str, int | None] = field(default_factory=dict)
    blind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    idle_share: float = 0.0
    noise: str | None = None
    free_bytes: int | None = None
    log: list[tuple[Any, ...]] = field(default_factory=list)
    clock_s: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(3))
    passes: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})

    def means(self) -> Means:
        return Means(
            start=lambda name, plan: ScriptedSide(self, name, plan),
            watch=self._watch,
            free_bytes=lambda _: self.free_bytes,
            now_s=lambda: self.clock_s,
        )

    @contextmanager
    def _watch(self, runners: Any, prepared: Any, *, limits: Any) -> Iterator[Any]:
        self.log.append(("watched", *runners))
        yield Quiet(self.noise)

    def events(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.log if event[0] in kinds]

    def order(self) -> str:
        """The sides in the order of their counted passes, a launch after the other."""
        return "".join(event[1] for event in self.log if event[0] == "pass" and event[3])


@dataclass(frozen=True)
class Quiet:
    reason: str | None


class ScriptedSide:
    """Passes whose times are drawn from the script."""

    def __init__(self, script: Script, name: str, plan: Plan) -> None:
        self._script, self._name = script, name
        self._level = script.draw.gauss(0.0, script.between)
        self._ran, self._position, self._counted = 0, 0, False
        self.pid = os.getpid()
        script.log.append(("start", name))

    def weigh(self) -> int | None:
        self._script.log.append(("weigh", self._name))
        return self._script.weights.get(self._name)

    def start_loading(self) -> None:
        self._script.log.append(("load", self._name))

    def await_loaded(self) -> Prepared:
        self._script.clock_s += self._script.load_s
        self._fail("loading")
        return Prepared(pids=(), gpu_uuid=None, on_cpu=True, num_batches=BATCHES, load_s=2.0)

    def begin(self, position: int) -> None:
        self._position, self._counted = position, True
        self._script.log.append(("begin", self._name, position))

    def run_pass(self) -> Passed:
        script = self._script
        script.passes[self._name] += 1
        self._fail(script.passes[self._name])
        batch = self._position % BATCHES
        script.log.append(("pass", self._name, batch, self._counted))
        times = self._draw_times()
        self._ran, self._position = self._ran + 1, self._position + 1
        script.clock_s += times["total"]
        idle_s = times["total"]
        return Passed(
            batch=batch,
            times_s=times,
            idle_s=idle_s,
            idle_cpu_s=script.idle_share * idle_s,
        )

    def _draw_times(self) -> dict[str, float]:
        script, name = self._script, self._name
        cold = script.cold[self._ran] if self._ran < len(script.cold) else 1.0
        noise = math.exp(self._level + script.draw.gauss(0.0, script.within))
        factor = script.factors[name] * script.slow * cold * noise
        phases = {phase: seconds * factor for phase, seconds in PHASES_S.items()}
        phases["decode"] *= script.decode_factors.get(name, 1.0)
        total = sum(phases.values())
        kept = {p: s for p, s in phases.items() if p not in script.blind.get(name, ())}
        return {"total": total, **kept, "other": total - sum(kept.values())}

    def _fail(self, when: str | int) -> None:
        failure = self._script.failures.pop((self._name, when), None)
        if failure is not None:
            raise failure

    def close(self) -> None:
        self._script.log.append(("close", self._name))

    def kill(self) -> None:
        self._script.log.append(("kill", self._name))
