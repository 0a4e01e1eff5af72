"""Latency probe: the time of one batch, whole and by phase, repeated until it is known well."""

from __future__ import annotations

import gc
import statistics as plain
import time
from collections.abc import Iterator

from profiling.engines.trace import PHASES, Timing
from profiling.engines.workload import Rotation, Workload
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.statistics.drift import describe_drift, find_drift
from profiling.statistics.stopping import Repeats, Settling
from profiling.statistics.summaries import Summary, describe_interval, summarize

_ONE_TOKEN = "a generation of one token has no time between tokens"
_AT_ONCE = "all tokens of an answer arrived at once, so that no time between them is known"
_WARMUP = {
    "settled": "until the medians settled",
    "cap": "until the medians settled, cut off at the cap",
    "time_budget": "until the medians settled, cut off at the time budget",
}


class LatencyProbe:
    """Warms up until the times settle, then repeats batches until the interval is narrow."""

    timed = True

    def __init__(
        self,
        *,
        repeats: int | None,
        time_budget_s: float,
        relative_target: float,
        minimum: int,
        maximum: int,
        warmup_window: int,
        warmup_tolerance: float,
        warmup_cap: int,
    ) -> None:
        self._rule = Repeats(
            fixed=repeats,
            time_budget_s=time_budget_s,
            relative_target=relative_target,
            minimum=minimum,
            maximum=maximum,
        )
        self._warmup = Settling(
            window=warmup_window,
            tolerance=warmup_tolerance,
            cap=warmup_cap,
            time_budget_s=time_budget_s,
        )

    def measure(self, workload: Workload) -> Iterator[Reading]:
        warm = self._warm_up(workload)
        runs = self._repeat(workload)
        source = workload.engine.clock().source
        timings = [timing for _, timing in runs]
        yield from _raw(runs, source)
        yield from _aggregate(timings, workload, source)
        yield _derived("num_warmup", len(warm), _WARMUP[str(self._warmup.stopped_by)])
        ended = f"ended by {self._rule.stopped_by}"
        drift = find_drift([timing.latency_s for timing in timings])
        found = f"; the latency {describe_drift(drift)}" if drift else ""
        yield _derived("num_repeats", len(timings), f"{ended}{found}")

    def _warm_up(self, workload: Workload) -> list[float]:
        values: list[float] = []
        batches = Rotation(workload)
        while self._warmup.wants_more(values):
            _, timing = batches.run_timed()
            values.append(timing.latency_s)
        return values

    def _repeat(self, workload: Workload) -> list[tuple[int, Timing]]:
        runs: list[tuple[int, Timing]] = []
        # What exists already can no longer cause a pause of the collector, here or in later
        # probes; what nobody holds any more is freed all the same.
        gc.collect()
        gc.freeze()
        begun = time.perf_counter()
        values: list[float] = []
        batches = Rotation(workload)
        while self._rule.wants_more(values, time.perf_counter() - begun):
            runs.append(batches.run_timed())
            values.append(runs[-1][1].latency_s)
        return runs


def _raw(runs: list[tuple[int, Timing]], source: str) -> Iterator[Reading]:
    for repeat, (batch, timing) in enumerate(runs):
        values = {"total": timing.latency_s, **timing.phases_s}
        for phase, value in values.items():
            yield reading(
                "latency_s",
                phase=phase,
                value=value,
                status=DERIVED if phase == "other" else MEASURED,
                source=source,
                repeat=repeat,
                batch=batch,
            )


def _aggregate(timings: list[Timing], workload: Workload, source: str) -> Iterator[Reading]:
    whole = summarize([timing.latency_s for timing in timings])
    yield from _spread(whole, source)
    for phase in PHASES:
        reason = workload.engine.blind.get(phase)
        if reason is not None:
            yield unavailable(f"{phase}_s", reason)
            continue
        values = [timing.phases_s[phase] for timing in timings]
        yield _median(f"{phase}_s", values, source)
    why_none = _AT_ONCE if any(t.num_tokens > 1 for t in timings) else _ONE_TOKEN
    first = [t.ttft_s for t in timings if t.ttft_s is not None]
    yield from _bounded_median("ttft", first, source, why_none)
    steps = [t.tpot_s for t in timings if t.tpot_s is not None]
    yield from _bounded_median("tpot", steps, source, why_none)
    median_s = plain.median(timing.latency_s for timing in timings)
    # A server that cannot be held to a length gives each pass another number of tokens.
    num_tokens = plain.fmean(timing.num_tokens for timing in timings)
    yield from _rates(median_s, num_tokens, workload.batch_size)


def _spread(whole: Summary, source: str) -> Iterator[Reading]:
    columns = {
        "latency_s": "median",
        "latency_mean_s": "mean",
        "latency_std_s": "std",
        "latency_min_s": "minimum",
        "latency_max_s": "maximum",
        "latency_p95_s": "p95",
        "latency_ci_low_s": "low",
        "latency_ci_high_s": "high",
    }
    for metric, name in columns.items():
        value = getattr(whole, name)
        if value is None:
            yield unavailable(metric, whole.missing[name])
        else:
            what = describe_interval(whole) if name in ("low", "high") else f"{name} of repeats"
            yield _measured(metric, value, f"{what}; {source}")


def _bounded_median(
    name: str, values: list[float], source: str, why_none: str
) -> Iterator[Reading]:
    """A median with its interval."""
    if not values:
        for metric in (f"{name}_s", f"{name}_ci_low_s", f"{name}_ci_high_s"):
            yield unavailable(metric, why_none)
        return
    yield _median(f"{name}_s", values, source)
    summary = summarize(values)
    for end in ("low", "high"):
        metric, value = f"{name}_ci_{end}_s", getattr(summary, end)
        if value is None:
            yield unavailable(metric, summary.missing[end])
        else:
            what = f"{describe_interval(summary)}; {source}"
            yield _measured(metric, value, what)


def _rates(latency_s: float, num_tokens: float, batch_size: int) -> Iterator[Reading]:
    yield _derived("samples_per_s", batch_size / latency_s, "samples of a batch over latency_s")
    tokens = batch_size * num_tokens / latency_s
    yield _derived("tokens_per_s", tokens, "timed new tokens over latency_s")


def _median(metric: str, values: list[float], source: str) -> Reading:
    status = DERIVED if metric == "other_s" else MEASURED
    return reading(metric, value=plain.median(values), status=status, source=source)


def _measured(metric: str, value: float, source: str) -> Reading:
    return reading(metric, value=value, status=MEASURED, source=source)


def _derived(metric: str, value: float, source: str) -> Reading:
    return reading(metric, value=value, status=DERIVED, source=source)


PROBE = LatencyProbe
