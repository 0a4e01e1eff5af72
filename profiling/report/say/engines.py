"""What the paired comparisons of an engine show it to be good for, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.metrics import TOTAL
from profiling.report.say.sentences import excludes_one
from profiling.report.say.units import times
from profiling.statistics.ratios import Ratio

_ERROR = "error"
_WORDS = {TOTAL: "the whole answer"}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An engine beside torch at one setting: torch's time over its own, and its logits' verdict.

    `speeds` holds paired comparisons of quiet machines only.
    """

    speeds: Mapping[str, Ratio]
    verdict: str | None


def say_engine(standings: Sequence[Standing], phases: Sequence[str]) -> str:
    """Only what an interval shows is called faster or slower."""
    known = {phase: _known(standings, phase) for phase in phases}
    parts = [
        _list("faster", known, above=True),
        _list("slower", known, above=False),
        _say_open(known),
        _say_logits(standings),
    ]
    if not any(known.values()):
        parts = [
            "no quiet paired comparison with an interval: nothing is said of its speed",
            parts[-1],
        ]
    return "; ".join(filter(None, parts))


def _known(standings: Sequence[Standing], phase: str) -> list[Ratio]:
    found = [one.speeds[phase] for one in standings if phase in one.speeds]
    return [ratio for ratio in found if ratio.low is not None and ratio.high is not None]


def _list(word: str, known: Mapping[str, Sequence[Ratio]], *, above: bool) -> str:
    """The phases in which an interval lies on one side of 1."""
    said = []
    for phase, ratios in known.items():
        found = [each for each in ratios if excludes_one(each) and (each.value > 1) is above]
        if found:
            name = _WORDS.get(phase, phase)
            said.append(f"{name} {_say_range(found)}{_say_share(found, ratios)}")
    return f"{word} in {', '.join(said)}" if said else ""


def _say_range(ratios: Sequence[Ratio]) -> str:
    """From the lowest to the highest end of the intervals."""
    low = min(ratio.low or 0.0 for ratio in ratios)
    high = max(ratio.high or 0.0 for ratio in ratios)
    return f"({times(low)} to {times(high)})"


def _say_share(ratios: Sequence[Ratio], known: Sequence[Ratio]) -> str:
    return "" if len(ratios) == len(known) else f" at {len(ratios)} of {len(known)} settings"


def _say_open(known: Mapping[str, Sequence[Ratio]]) -> str:
    undecided = [
        _WORDS.get(phase, phase)
        for phase, ratios in known.items()
        if ratios and not any(map(excludes_one, ratios))
    ]
    return f"not shown to differ in {', '.join(undecided)}" if undecided else ""


def _say_logits(standings: Sequence[Standing]) -> str:
    counts = Counter(one.verdict for one in standings if one.verdict)
    if not counts:
        return "its logits were not compared"
    listed = ", ".join(f"{word} ({count})" for word, count in sorted(counts.items()))
    warned = ": more than rounding explains, see the tables" if _ERROR in counts else ""
    return f"logits against torch in float32: {listed}{warned}"
