"""Measures how well paired comparisons work: `python -m benchmarks.paired`.

Points are compared with themselves, and 53 new tokens with 50, over the five embedded families. The
targets: of 40 comparisons of equal points at most 4 intervals exclude 1, the median half-width is
3% or less, and at least 38 of 40 find that 53 tokens take longer. What an interval of 53 against 50
should hold is the ratio over all other launches of the same kind, a long comparison among them.

A finished comparison is kept, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from profiling import PROJECT
from profiling.machine.machine import describe_machine, git_state
from profiling.points.options import list_families
from profiling.records import Comparison, write_json
from profiling.runs.paired.locked import compare
from profiling.runs.paired.opposed import Opposed
from profiling.versus import plan_side

FAMILIES = list_families()
EQUAL, LONGER, LONG = "equal", "longer", "long"
SIDES = {
    EQUAL: ("max_new_tokens=50", "max_new_tokens=50"),
    LONGER: ("max_new_tokens=53", "max_new_tokens=50"),
}
MOST_FALSE, WIDEST, LEAST_FOUND = 0.1, 0.03, 0.95


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One comparison of the benchmark."""

    kind: str
    family: str
    comparison: Comparison

    @property
    def means(self) -> list[float]:
        """The mean log ratio of each launch."""
        return [launch["mean_log_ratio"] for launch in self.comparison.content["by_launch"]]

    @property
    def ends(self) -> tuple[float, float]:
        whole = self.comparison.whole
        assert whole.ci_low is not None and whole.ci_high is not None
        return whole.ci_low, whole.ci_high

    @property
    def half_width(self) -> float:
        """As a share of the ratio, on the log scale."""
        low, high = self.ends
        return math.expm1(math.log(high / low) / 2)

    @property
    def took_s(self) -> float:
        return math.fsum(launch["took_s"] for launch in self.comparison.content["by_launch"])

    def holds(self, ratio: float) -> bool:
        low, high = self.ends
        return low <= ratio <= high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=40, help="of either kind")
    parser.add_argument("--long", type=int, default=20, help="launches of the long comparisons")
    parser.add_argument("--results", type=Path, default=Path("results_paired"))
    parser.add_argument("--output", type=Path, default=PROJECT / "benchmarks" / "paired.json")
    options = parser.parse_args()
    trials: list[Trial] = []
    for trial in run(options.comparisons, options.long, options.results):
        trials.append(trial)
        print(describe(trial), flush=True)
        write_json(options.output, sum_up(trials))
    for name, value in sum_up(trials)["figures"].items():
        print(f"{name}: {value}")


def run(comparisons: int, long: int, results: Path) -> Iterator[Trial]:
    """Both kinds in turn and family after family, so that drift meets all of them."""
    for number in range(comparisons):
        family = FAMILIES[number % len(FAMILIES)]
        for kind in (EQUAL, LONGER):
            yield measure(kind, family, 1 + number // len(FAMILIES), results, None)
    for family in FAMILIES[: comparisons if long else 0]:
        yield measure(LONG, family, 1, results, long)


def measure(kind: str, family: str, round: int, results: Path, launches: int | None) -> Trial:
    """A round makes the comparison one of its own."""
    shared = [f"model={family}", "profiler=quick", f"round={round}", f"results_dir={results}"]
    a, b = (plan_side(side, shared) for side in SIDES.get(kind, SIDES[LONGER]))
    opposed = Opposed(
        a=a,
        b=b,
        launches=launches or a.point.launches,
        is_fixed=launches is not None,
    )
    comparison, _ = compare(opposed, notify=lambda _: None)
    return Trial(kind=kind, family=family, comparison=comparison)


def describe(trial: Trial) -> str:
    whole, (low, high) = trial.comparison.whole, trial.ends
    return (
        f"{trial.kind:<7}{trial.family:<12}{whole.ratio:.4f} [{low:.4f}, {high:.4f}]"
        f"  half-width {trial.half_width:.2%}  {whole.launches} launches, {whole.pairs} pairs,"
        f" {trial.took_s:.0f} s{'  noisy' if trial.comparison.noisy else ''}"
    )


def sum_up(trials: Sequence[Trial]) -> dict[str, Any]:
    """What is written: the figures, the conditions, and a row a comparison."""
    return {
        "figures": count(trials),
        "machine": describe_machine().to_dict(),
        "git": git_state(PROJECT),
        "comparisons": [row(trial, trials) for trial in trials],
    }


def count(trials: Sequence[Trial]) -> dict[str, Any]:
    equal = [trial for trial in trials if trial.kind == EQUAL]
    longer = [trial for trial in trials if trial.kind == LONGER]
    judged = [(trial, find_truth(trial, trials)) for trial in longer]
    known = [(trial, truth) for trial, truth in judged if truth is not None]
    return {
        "equal": len(equal),
        "equal_excluding_1": sum(not trial.holds(1) for trial in equal),
        "equal_median_half_width": median(trial.half_width for trial in equal),
        "longer": len(longer),
        "longer_right_sign": sum(trial.comparison.whole.ratio > 1 for trial in longer),
        "longer_found": sum(trial.ends[0] > 1 for trial in longer),
        "longer_with_known_ratio": len(known),
        "longer_holding_it": sum(trial.holds(truth) for trial, truth in known),
        "median_s": median(trial.took_s for trial in [*equal, *longer]),
        "noisy": sum(trial.comparison.noisy for trial in trials),
        "passed": has_passed(equal, longer),
    }


def has_passed(equal: Sequence[Trial], longer: Sequence[Trial]) -> bool:
    false = sum(not trial.holds(1) for trial in equal)
    found = sum(trial.ends[0] > 1 for trial in longer)
    width = median(trial.half_width for trial in equal)
    return (
        false <= MOST_FALSE * len(equal) and width <= WIDEST and found >= LEAST_FOUND * len(longer)
    )


def find_truth(trial: Trial, trials: Sequence[Trial]) -> float | None:
    """The ratio over all other launches that compared the same; None where there are none."""
    others = [
        mean
        for other in trials
        if other is not trial and other.family == trial.family and other.kind in (LONGER, LONG)
        for mean in other.means
    ]
    return math.exp(fmean(others)) if others else None


def row(trial: Trial, trials: Sequence[Trial]) -> dict[str, Any]:
    whole = trial.comparison.whole
    return {
        "kind": trial.kind,
        "family": trial.family,
        "address": trial.comparison.address,
        "ratio": whole.ratio,
        "ci_low": whole.ci_low,
        "ci_high": whole.ci_high,
        "expected": 1.0 if trial.kind == EQUAL else find_truth(trial, trials),
        "launches": whole.launches,
        "pairs": whole.pairs,
        "between_launch_sd": whole.between_launch_sd,
        "within_launch_sd": whole.within_launch_sd,
        "took_s": trial.took_s,
        "noisy": trial.comparison.noisy,
    }


if __name__ == "__main__":
    main()
