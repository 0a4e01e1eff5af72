"""Which methods of token reduction differ from their controls, and at which shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiling.metrics import TOTAL
from profiling.report.say import escape
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.sentences import excludes_one
from profiling.statistics.ratios import Ratio


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A method, as it is called, and the share of the visual tokens that it kept."""

    method: str
    keep: str


def say_answers(measure: str, changes: Sequence[tuple[Kept, ScoreDifference]]) -> str:
    """The methods whose error is shown to be another than that of random tokens."""
    shown = [(kept, found.change) for kept, found in changes if found.is_different]
    better = [kept for kept, change in shown if change < 0]
    worse = [kept for kept, change in shown if change > 0]
    return f"{measure}: " + _say({"better": better, "worse": worse}, "random tokens")


def say_times(phase: str, ratios: Sequence[tuple[Kept, Ratio]]) -> str:
    """The methods that are shown to take another time than the full model, measured in pairs."""
    shown = [(kept, ratio.value) for kept, ratio in ratios if excludes_one(ratio)]
    faster = [kept for kept, value in shown if value > 1]
    slower = [kept for kept, value in shown if value < 1]
    what = "Time" if phase == TOTAL else f"Time of the {phase}"
    return f"{what}: " + _say({"faster": faster, "slower": slower}, "the full model")


def _say(found: Mapping[str, Sequence[Kept]], other: str) -> str:
    said = [
        f"shown to be {word} than {other}: {_list_methods(kept)}"
        for word, kept in found.items()
        if kept
    ]
    return ("; ".join(said) or f"no difference from {other} is shown") + "."


def _list_methods(found: Sequence[Kept]) -> str:
    """Methods, each with the shares at which it is so."""
    shares: dict[str, list[str]] = {}
    for kept in found:
        shares.setdefault(kept.method, []).append(kept.keep)
    return ", ".join(
        f"{escape.markdown(method)} ({', '.join(own)})" for method, own in shares.items()
    )
