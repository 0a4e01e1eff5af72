"""The marks that stand beside a value that is not what a reader might take it for."""

from __future__ import annotations

from collections.abc import Iterable

from profiling.report.read.runs import Run

NOISY, ESTIMATED, TINY, RANDOM = "†", "≈", "‡", "§"
MEANINGS = {
    NOISY: "noisy: the machine was too busy to trust the times of this run",
    ESTIMATED: "estimated from a model of the machine, not measured",
    TINY: "tiny weights: a small checkpoint of the real architecture; its costs and its answers"
    " are not those of the published model",
    RANDOM: "random weights: the real architecture at full size with random values; its costs"
    " count, its answers mean nothing",
}
_WEIGHTS = {"tiny": TINY, "random": RANDOM}


def mark_weights(run: Run) -> str:
    """The mark of weights that are not a published model's."""
    return _WEIGHTS.get(run["weights"], "")


def mark_noise(run: Run) -> str:
    return NOISY if run["noisy"] else ""


def mark_run(run: Run) -> str:
    """All that holds for every time of a run."""
    return mark_weights(run) + mark_noise(run)


def explain(runs: Iterable[Run], *, estimates: bool) -> list[str]:
    """A line for each mark that these runs call for."""
    used = {mark for run in runs for mark in mark_run(run)}
    if estimates:
        used.add(ESTIMATED)
    return [f"{mark} {MEANINGS[mark]}" for mark in MEANINGS if mark in used]
