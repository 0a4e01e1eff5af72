"""Whether the times of a run are normal: least times, published ones, limits, and what to try."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from profiling import metrics
from profiling.metrics import COUNTED_PHASES
from profiling.report.read.runs import Run
from profiling.report.say.limits import Place, find_places
from profiling.report.say.units import count, percent, quantity, times

_PUBLISHED = Path(__file__).parent / "published_latencies.csv"
_S = metrics.find("latency_s").unit
_MINIATURE = "tiny"
# Up to so many times its least time, a phase is at its limit; from so many on, far from it.
_AT_LIMIT, _FAR = 2.0, 5.0
# A phase without arithmetic on the device is worth a word from this share of the whole on.
_NOTICED = 0.15
_UNCOUNTED_PHASES = ("preprocess", "transfer", "other")

_COMPUTE_BOUND = (
    "fewer tokens (a smaller img_size, token_pruning), or a dtype that the device multiplies faster"
)
_MEMORY_BOUND = (
    "fewer bytes a step (quantized weights), or more rows that share one reading (a larger"
    " batch_size)"
)
_OVERHEAD = (
    "trace=true shows which operators take the time (overhead, copies, slow kernels); a larger"
    " batch_size, compile, another engine"
)
_TRY_AROUND = {
    "preprocess": "preprocess: a smaller img_size, preload=true, or fewer pixels to resize from",
    "transfer": "transfer: larger batches, so that fewer copies are made",
    "other": "other: a longer answer or a larger batch makes what is paid once a batch matter less",
}


@dataclass(frozen=True, kw_only=True)
class PublishedLatency:
    """A published time of a family, and the least time of the same work."""

    model: str
    size: str
    device: str
    what: str
    phase: str
    seconds: float
    least_s: float


@cache
def read_published_latencies() -> tuple[PublishedLatency, ...]:
    with _PUBLISHED.open(encoding="utf-8", newline="") as stream:
        return tuple(
            PublishedLatency(
                **{name: line[name] for name in ("model", "size", "device", "what", "phase")},
                seconds=float(line["seconds"]),
                least_s=float(line["least_s"]),
            )
            for line in csv.DictReader(stream)
        )


def explain_run(run: Run, others: Sequence[Run]) -> list[str]:
    """The explanation as lines; `others` are the runs to compare shares with."""
    if not run.completed:
        reason = run.record.run.get("error") or "no reason was recorded"
        return [_name(run), f"{run.record.status}: {reason}. There are no times to explain."]
    return list(_explain(run, others))


def _name(run: Run) -> str:
    names = ("model", "weights", "optimization", "device", "dtype")
    return f"{run.short}: " + ", ".join(f"{name}={run[name]}" for name in names)


def _explain(run: Run, others: Sequence[Run]) -> Iterator[str]:
    yield _name(run)
    if run["noisy"]:
        yield f"Caution: the machine was busy ({run['noise_reason']}); times may be too long."
    latency_s = run.number("latency_s")
    yield f"latency: {quantity(latency_s, _S)} a batch of {run['batch_size']}"
    yield ""
    places = {place.phase: place for place in find_places(run)}
    for phase in COUNTED_PHASES:
        yield from _explain_phase(run, phase, places.get(phase), others)
    yield from _around(run, latency_s)
    yield ""
    yield from _published(run)


def _explain_phase(
    run: Run, phase: str, place: Place | None, others: Sequence[Run]
) -> Iterator[str]:
    measured = run.number(f"{phase}_s")
    if place is None:
        yield f"{phase}: {quantity(measured, _S)}; {_why_unplaced(run, phase, measured)}"
        return
    ratio = place.seconds / place.least_s
    drafted = run.number("tokens_per_step") if phase == "decode" else None
    yield (
        f"{phase}: {quantity(place.seconds, _S)}, at least {quantity(place.least_s, _S)} on this"
        f" device ({times(ratio)}); limited by {place.bound_by}: {_judge(place, drafted)}"
    )
    if drafted is not None:
        yield (
            f"  the least time is that of a step for each token; here a step gave {drafted:.2f}"
            " tokens"
        )
    yield f"  other runs of this family on such a device: {_describe_others(run, phase, others)}"
    yield f"  to try: {_advise(place, ratio)}"


def _why_unplaced(run: Run, phase: str, measured: float | None) -> str:
    if measured is None:
        return run.reason(f"{phase}_s") or "not measured"
    for metric in (f"least_{phase}_s", f"mfu_{phase}", f"flops_{phase}", "peak_flops_per_s"):
        reason = run.reason(metric)
        if reason is not None:
            return f"its least time is not known: {reason}"
    return "its least time is not known: the run has no roofline readings"


def _judge(place: Place, drafted: float | None) -> str:
    ratio = place.seconds / place.least_s
    if ratio < 1 and drafted is not None:
        return "faster than token by token, since drafts were accepted"
    if ratio < 1 and place.is_bound_by_memory:
        return "faster than the measured peak: data stay in a cache, or the peak is too low"
    if ratio < 1:
        return "faster than the measured peak, which is then lower than what the device can do"
    if ratio <= _AT_LIMIT:
        return "at its limit"
    return "within what is usual" if ratio <= _FAR else "far from its limit"


def _advise(place: Place, ratio: float) -> str:
    if ratio > _FAR:
        return _OVERHEAD
    return _MEMORY_BOUND if place.is_bound_by_memory else _COMPUTE_BOUND


def _describe_others(run: Run, phase: str, others: Sequence[Run]) -> str:
    alike = [one for one in others if one is not run and _is_alike(one, run)]
    ratios = sorted(
        place.seconds / place.least_s
        for one in alike
        for place in find_places(one)
        if place.phase == phase
    )
    if not ratios:
        return "none with a known least time"
    return (
        f"{times(ratios[0])} to {times(ratios[-1])} their least times ({count(len(ratios), 'run')})"
    )


def _is_alike(one: Run, run: Run) -> bool:
    keys = ("model", "weights", "device")
    machines = [
        (r.record.run["machine"].get("cpu_model"), str(r.record.run["machine"].get("gpus")))
        for r in (one, run)
    ]
    return (
        one.completed
        and one.name != run.name
        and all(one[key] == run[key] for key in keys)
        and machines[0] == machines[1]
    )


def _around(run: Run, latency_s: float | None) -> Iterator[str]:
    """Phases without arithmetic on the device, where they take a noticeable share."""
    for phase in _UNCOUNTED_PHASES:
        seconds = run.number(f"{phase}_s")
        if seconds is None or not latency_s:
            continue
        share = seconds / latency_s
        yield f"{phase}: {quantity(seconds, _S)}, {percent(share)} of the latency"
        if share > _NOTICED:
            yield f"  to try: {_TRY_AROUND[phase]}"


def _published(run: Run) -> Iterator[str]:
    found = [one for one in read_published_latencies() if one.model == run["model"]]
    if run["weights"] == _MINIATURE:
        yield "published: none, since this is a miniature; figures are of full sizes"
    elif not found:
        yield "published: no latency of this family is known here"
    else:
        for one in found:
            yield (
                f"published: {one.size} on {one.device}, {one.what} ({one.phase}):"
                f" {quantity(one.seconds, _S)}, {times(one.seconds / one.least_s)} its least time"
            )
