"""Points at full size on the GPU, and what their records have to say."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from profiling.points.configuration import compose_config
from profiling.records import COMPLETED, FAILED, folder_for, read_record
from profiling.runs.job import Outcome
from profiling.runs.session import Plan, Session, plan_point
from profiling.selfcheck.budget import CutOff
from profiling.selfcheck.finding import Finding, cannot, judge

LARGEST_POWER_W = 2000.0
# Nothing runs faster than the fastest product or copy that was measured; both are measured times.
MOST_OF_PEAK = 1.1


def plan(overrides: Sequence[str]) -> Plan:
    """A point from what a person would type."""
    return plan_point(compose_config(overrides))


def run_point(name: str, planned: Plan, session: Session, *, at_most_s: float) -> Iterator[Finding]:
    """Run a point in a worker, which is ended where it takes longer than that."""
    folder = folder_for(Path(planned.point.results_dir), planned.fingerprint, resume=False)
    with _ending(session, at_most_s) as ended:
        outcome = session.run(planned)
    if ended.is_set():
        raise CutOff
    yield from judge_point(name, outcome, folder)


@contextmanager
def _ending(session: Session, at_most_s: float) -> Iterator[threading.Event]:
    ended = threading.Event()

    def end() -> None:
        ended.set()
        session.stop()

    timer = threading.Timer(at_most_s, end)
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
        timer.join()


def judge_point(name: str, outcome: Outcome, folder: Path) -> Iterator[Finding]:
    """What the record of a point says, each with what has to be true of it."""
    if outcome.status == FAILED:
        why = outcome.error or "no reason was given"
        yield judge(name, expected=COMPLETED, found=FAILED, right=False, why=why)
        return
    if outcome.status != COMPLETED:
        yield cannot(name, expected=COMPLETED, found=outcome.status, why=outcome.error or "")
        return
    summary = outcome.summary
    latency_ms = (summary["latency_s"] or 0) * 1e3
    yield judge(name, expected="completed", found=f"{latency_ms:,.1f} ms a batch", right=True)
    yield _judge_memory(name, summary)
    yield _judge_joules(name, summary, folder)
    for column in ("mfu_prefill", "mbu_decode"):
        yield _judge_share(f"{name}: {column}", summary, column, folder)
    if summary["noisy"]:
        why = f"times are not to be trusted: {summary['noise_reason']}"
        yield cannot(f"{name}: noise", expected="quiet", found="noisy", why=why)


def _judge_memory(name: str, summary: Mapping[str, Any]) -> Finding:
    peak, weights = summary["gpu_memory_peak_bytes"], summary["model_bytes"]
    return judge(
        f"{name}: peak memory",
        expected=f"at least {weights or 0:,.0f} B",
        found="nothing" if peak is None else f"{peak:,.0f} B",
        right=peak is not None and weights is not None and peak >= weights,
        why="" if peak is not None else "no peak of the GPU's memory was recorded",
    )


def _judge_joules(name: str, summary: Mapping[str, Any], folder: Path) -> Finding:
    """Joules a sample at the speed that was measured are a power, which has to be plausible."""
    check, expected = f"{name}: power while it runs", f"0 to {LARGEST_POWER_W:,.0f} W"
    joules, per_s = summary["energy_j"], summary["samples_per_s"]
    if joules is None or per_s is None:
        return cannot(check, expected=expected, why=_reason(folder, "energy_j"))
    power_w = joules * per_s
    return judge(
        check,
        expected=expected,
        found=f"{power_w:.3g} W",
        right=0 < power_w < LARGEST_POWER_W,
        why=str(summary["energy_source"]),
    )


def _judge_share(check: str, summary: Mapping[str, Any], column: str, folder: Path) -> Finding:
    expected = "0 to 100%"
    if summary[column] is None:
        return cannot(check, expected=expected, why=_reason(folder, column))
    share = float(summary[column])
    return judge(check, expected=expected, found=f"{share:.1%}", right=0 < share <= MOST_OF_PEAK)


def _reason(folder: Path, metric: str) -> str:
    """Why a metric has no value, as its reading says."""
    rows = read_record(folder).readings
    found = rows[(rows["metric"] == metric) & rows["repeat"].isna()]["source"]
    return str(found.iloc[0]) if len(found) else "the record has no reading of it"
