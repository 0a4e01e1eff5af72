"""The marks beside values that are noisy, estimated, or not of a published model."""

from __future__ import annotations

from collections.abc import Iterable

from profiling import metrics
from profiling.report.read.paired import PairedTimes
from profiling.report.read.plain_runs import PAIRED
from profiling.report.read.runs import Run
from profiling.statistics.rounds import LEAST_ROUNDS

NOISY, ESTIMATED, TINY, RANDOM, SERVED = "†", "≈", "‡", "§", "◊"
MEANINGS = {
    NOISY: "noisy: the machine was too busy to trust the times of this run",
    ESTIMATED: "estimated by a model of the machine, not measured",
    TINY: "tiny weights: a small checkpoint of the real architecture; costs and answers are not"
    " those of the published model",
    RANDOM: "random weights: the real architecture with random values, at full size unless"
    " `model.checkpoint` says otherwise; costs are valid, answers are meaningless",
    SERVED: "run by a server: weights, precision and batching are the server's, whatever model and"
    " weights are called here",
}
_WEIGHTS = {"tiny": TINY, "random": RANDOM}


def mark_weights(run: Run) -> str:
    """The mark of weights that are not those of a published model, or not known to be."""
    if is_served(run):
        return SERVED
    return _WEIGHTS.get(run["weights"], "")


def is_served(run: Run) -> bool:
    """Whether another program has the model: the engine of the run has an address."""
    return run["engine.url"] is not None


def mark_noise(run: Run) -> str:
    return NOISY if run["noisy"] else ""


def mark_pairs(paired: PairedTimes) -> str:
    """The mark of a paired comparison, whose noise is its own and not that of the two runs."""
    return NOISY if paired.noisy else ""


def mark_speed(paired: PairedTimes | None, run: Run, plain: Run) -> str:
    """The mark of a speed-up: of the paired comparison, or of either separate run."""
    return mark_noise(run) or mark_noise(plain) if paired is None else mark_pairs(paired)


def mark_noisy_value(run: Run, metric: str) -> str:
    """The mark of a value that a busy machine spoils; a paired speed-up has noise of its own."""
    if metric == "speedup" and run["speedup_source"] == PAIRED:
        return NOISY if run.speedup_is_noisy else ""
    return mark_noise(run) if metrics.find(metric).from_times else ""


def mark_estimate(run: Run, metric: str) -> str:
    estimated = metrics.find(metric).is_estimate or run.is_estimated(metric)
    return f"{ESTIMATED} " if estimated else ""


def mark_run(run: Run) -> str:
    """The marks that apply to every time of a run."""
    return mark_weights(run) + mark_noise(run)


def explain(runs: Iterable[Run], *, estimates: bool) -> list[str]:
    """A line for each mark that is used for these runs."""
    listed = list(runs)
    used = {mark for run in listed for mark in mark_run(run)}
    if any(run.paired.has_noise(run.record.fingerprint) for run in listed):
        used.add(NOISY)
    if estimates:
        used.add(ESTIMATED)
    return [f"{mark} {MEANINGS[mark]}" for mark in MEANINGS if mark in used]


def explain_rounds(runs: Iterable[Run]) -> list[str]:
    """How rounds are shown, where a run has some."""
    if not any(run.rounds for run in runs):
        return []
    return [
        f"A point that was measured in {LEAST_ROUNDS} rounds or more is one row: medians of its"
        " rounds, with 95% intervals of Student's t over them. Of fewer rounds the newest one is"
        " shown"
    ]
