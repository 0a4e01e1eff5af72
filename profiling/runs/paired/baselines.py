"""The comparisons of a sweep with `paired=true`: every point with its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from profiling.machine.locks import LockError
from profiling.points.options import read_option
from profiling.points.point import DEFAULT_ENGINE
from profiling.records import COMPLETED, FAILED
from profiling.runs.paired.locked import compare
from profiling.runs.paired.opposed import Opposed, find_kept
from profiling.runs.paired.showing import describe
from profiling.runs.paired.side import SideFailed
from profiling.runs.progress import Progress, show_duration
from profiling.runs.session import Plan, plan_checked
from profiling.statistics.launches import Launches
from profiling.statistics.ratios import LEAST_LAUNCHES

_PLAIN = "baseline"


def find_baseline(plan: Plan) -> Plan:
    """The same point with the plain model in the default engine."""
    point = replace(
        plan.point,
        engine_settings=read_option("engine", DEFAULT_ENGINE),
        optimization_settings=read_option("optimization", _PLAIN),
    )
    return plan_checked(point)


def oppose(plans: Sequence[Plan]) -> list[Opposed]:
    """The comparisons that `paired=true` asks for; a baseline needs none with itself.

    A is the baseline and B the point, so that the ratio is the speed-up of the point.
    """
    found: dict[str, Opposed] = {}
    for plan in plans:
        if not plan.point.paired:
            continue
        baseline = find_baseline(plan)
        if baseline.fingerprint != plan.fingerprint:
            launches = plan.point.launches
            opposed = Opposed(a=baseline, b=plan, launches=launches, is_fixed=False)
            found.setdefault(opposed.address, opposed)
    return list(found.values())


def list_comparisons(opposed: Sequence[Opposed]) -> Iterator[str]:
    """A line for each, and how long those without a record take in all."""
    missing = []
    for one in opposed:
        rule = None if find_kept(one) else one.rule()
        missing += [rule] if rule else []
        yield f"{one.address} {one.label()}: {_describe_launches(rule) if rule else 'there'}"
    budget_s = sum(rule.time_budget_s for rule in missing)
    if missing and math.isfinite(budget_s):
        number = f"{len(missing)} comparison{'s' * (len(missing) > 1)}"
        least = f"{LEAST_LAUNCHES} launches of each take longer"
        yield f"{number} to run, at most {show_duration(budget_s)} in all unless {least}"


def _describe_launches(rule: Launches) -> str:
    if rule.first == rule.maximum:
        number = f"{rule.first} launches" if rule.first > 1 else "1 launch"
    else:
        number = f"{rule.first} to {rule.maximum} launches"
    if math.isinf(rule.time_budget_s):
        return number
    return f"{number}, as many as fit into {show_duration(rule.time_budget_s)}"


@dataclass(kw_only=True)
class PairedRuns:
    """Measures comparisons one after another and counts how they end."""

    progress: Progress
    statuses: list[str] = field(default_factory=list)

    def run(self, opposed: Sequence[Opposed], status_of: Mapping[str, str]) -> None:
        """`status_of` says how the points have ended; only completed ones are compared."""
        for one in opposed:
            self.progress.begin(one.label())
            status = status_of.get(one.b.fingerprint, FAILED)
            if status == COMPLETED:
                self._compare(one)
            else:
                self._skip(f"the point is {status}", status)

    def _compare(self, opposed: Opposed) -> None:
        try:
            comparison, was_kept = compare(opposed, notify=self.progress.phase)
        except SideFailed as failed:
            self._skip(f"{failed.side.upper()} {failed.status}: {failed.error}", failed.status)
        except (LockError, OSError) as error:
            self._skip(f"{FAILED}: there is no comparison: {error}", FAILED)
        else:
            self.statuses.append(COMPLETED)
            kept = "kept, " if was_kept else ""
            line = f"{kept}{describe(comparison)}, {comparison.folder}"
            self.progress.end(line, measured=not was_kept)

    def counts(self) -> str:
        counted = {status: self.statuses.count(status) for status in dict.fromkeys(self.statuses)}
        listed = ", ".join(f"{count} {status}" for status, count in counted.items())
        number = len(self.statuses)
        noun = "comparison" if number == 1 else "comparisons"
        return f"{number} {noun} with the baseline: {listed}"

    @property
    def has_failed(self) -> bool:
        return FAILED in self.statuses

    def _skip(self, reason: str, status: str) -> None:
        self.statuses.append(status)
        self.progress.end(f"not compared: {reason}", measured=False)
