"""Parts that are run in turn while a time budget lasts; what no longer fits is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from profiling.machine.clock import Time
from profiling.selfcheck.finding import Finding, perform


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something to be checked; `run` is given the seconds that are left for it."""

    name: str
    expects_s: float
    run: Callable[[float], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A part that was not run, or not to its end."""

    name: str
    why: str


class CutOff(Exception):
    """A part was ended because the budget was spent."""


@dataclass(kw_only=True)
class Course:
    """What was found, what each part took, and what was left out."""

    findings: list[Finding] = field(default_factory=list)
    took_s: dict[str, float] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seconds for all parts together."""

    budget_s: float
    time: Time

    def run(
        self, parts: Sequence[Part], tell: Callable[[str], None], show: Callable[[Finding], None]
    ) -> Course:
        """Run what fits; a part that does not is passed over for a shorter one behind it."""
        course, begun_s = Course(), self.time.now_s()
        for number, part in enumerate(parts, start=1):
            left_s = self.budget_s - (self.time.now_s() - begun_s)
            place = f"[{number}/{len(parts)}] {part.name}"
            if part.expects_s > left_s:
                why = f"takes about {part.expects_s:.0f} s, and {max(left_s, 0):.0f} s were left"
                course.left_out.append(LeftOut(name=part.name, why=why))
                tell(f"{place}: left out, it {why}")
                continue
            tell(f"{place}: about {part.expects_s:.0f} s, {left_s:.0f} s left")
            self._run_part(part, left_s, course, show)
        return course

    def _run_part(
        self, part: Part, left_s: float, course: Course, show: Callable[[Finding], None]
    ) -> None:
        started_s = self.time.now_s()
        try:
            for finding in perform(part.name, lambda: _uncut(part.run(left_s))):
                course.findings.append(finding)
                show(finding)
        except _Ended:
            why = f"was ended after {self.time.now_s() - started_s:.0f} s, with the time budget"
            course.left_out.append(LeftOut(name=part.name, why=why))
        course.took_s[part.name] = self.time.now_s() - started_s


class _Ended(BaseException):
    """No fault of the part, so that `perform` does not call it one."""


def _uncut(findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except CutOff as reason:
        raise _Ended from reason
