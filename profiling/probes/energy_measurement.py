"""Joules of a workload by windows of whole passes: what fits, what can be trusted, by phase."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from profiling.engines.workload import Rotation, Workload
from profiling.errors import ConfigError, Unsupported
from profiling.machine.nvml import POWER_PERIOD_S, PowerIntegral
from profiling.probes.energy_window import Counter, Meter, Window, Work, measure_update_period
from profiling.probes.instruments import Instruments
from profiling.records import DERIVED, ESTIMATED, MEASURED, Reading, unavailable
from profiling.statistics.means import Estimate, estimate_mean, subtract

# Of readings that see only a part of the time, no more is believed than this share.
POWER_TRUSTED_WITHIN = 0.02
PHASE_METRICS = ("vision_energy_j", "prefill_energy_j", "decode_energy_j")


@dataclass(frozen=True, kw_only=True)
class EnergySettings:
    """How long to measure and when to distrust it.

    `min_updates` counter updates and `min_window_s` bound a window from below, `max_total_s` the
    whole measurement from above; a measurement that does not fit is not made.
    """

    windows: int
    min_window_s: float
    min_updates: int
    max_total_s: float
    settle_s: float
    idle_s: float
    phases: bool
    max_relative_uncertainty: float
    max_idle_drift: float
    period_changes: int
    period_timeout_s: float
    power_sample_s: float
    estimate_s: float

    def __post_init__(self) -> None:
        if self.windows < 2:
            key = "profiler.probes.energy.windows"
            raise ConfigError(key, self.windows, "at least 2, an interval needs more than one")


class CannotMeasure(Exception):
    """The reason why there is no measured joule; it becomes the reading's source."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """The windows of one kind of work."""

    windows: Sequence[Window]

    def per_sample_j(self, component: str) -> list[float]:
        return [window.per_sample_j(component) for window in self.windows]

    def estimate(self, component: str, updates: float) -> Estimate:
        """Mean over windows; what they may all have wrong alike is added to their spread.

        That is the error of one step of the counter, and what the counter itself is in doubt of,
        anywhere between the bounds of which it may be off.
        """
        mean = estimate_mean(self.per_sample_j(component))
        step = abs(mean.value) / (updates * math.sqrt(12 * len(self.windows)))
        doubt = self._doubt_j(component) / math.sqrt(3)
        return replace(mean, standard_error=math.hypot(mean.standard_error, step, doubt))

    def _doubt_j(self, component: str) -> float:
        samples = sum(window.samples for window in self.windows)
        return sum(window.doubt_j.get(component, 0.0) for window in self.windows) / samples

    @property
    def window_s(self) -> float:
        return sum(window.duration_s for window in self.windows) / len(self.windows)

    @property
    def sample_s(self) -> float:
        samples = sum(window.samples for window in self.windows)
        return sum(window.duration_s for window in self.windows) / samples


def measure_nothing(reason: str) -> Iterator[Reading]:
    for metric in ("energy_j", "energy_ci_low_j", "energy_ci_high_j", "energy_net_j"):
        yield unavailable("total", metric, "J", reason)
    for metric in PHASE_METRICS:
        yield unavailable(metric.split("_")[0], metric, "J", reason)


class Measurement:
    """One workload on one set of instruments; raises `CannotMeasure` before it spends the time."""

    def __init__(
        self, *, settings: EnergySettings, instruments: Instruments, workload: Workload
    ) -> None:
        self.settings = settings
        self.instruments = instruments
        self.workload = workload
        self.time = instruments.time
        headline = instruments.headline
        if headline not in instruments.counters:
            raise CannotMeasure(instruments.missing[headline])
        self.headline = instruments.counters[headline]
        self.left_s = settings.max_total_s
        # What cannot fit however fast the counter is, is refused before anything runs.
        self._afford(kinds=1, window_s=settings.min_window_s, idle_s=settings.idle_s)
        self.period_s = self._find_period()
        least_s = settings.min_updates * self.period_s
        self.window_s = max(settings.min_window_s, least_s * self._updates_for_one)
        self.idle_s = max(settings.idle_s, least_s)
        self._check(self._whole(None), kinds=1, idle_s=self.idle_s)
        self.meter = Meter(
            counters=instruments.ordered(),
            period_s=self.period_s,
            time=self.time,
            shifts=isinstance(self.headline, PowerIntegral),
        )
        self.throttling: set[str] = set()

    @property
    def _updates_for_one(self) -> int:
        """A reading that saw a part of its period is worth less than a count of all of it."""
        return 2 if isinstance(self.headline, PowerIntegral) else 1

    def _find_period(self) -> float:
        # The idle board's power is as good as steady, and says nothing of when it is read anew.
        if isinstance(self.headline, PowerIntegral):
            return POWER_PERIOD_S
        period_s = measure_update_period(
            self.headline,
            changes=self.settings.period_changes,
            timeout_s=self.settings.period_timeout_s,
            time=self.time,
        )
        if period_s is not None:
            return period_s
        raise CannotMeasure(
            f"{self.headline.source} did not move within {self.settings.period_timeout_s:g} s"
        )

    def _check(self, work: Work, *, kinds: int, idle_s: float) -> None:
        """Whether windows of this work fit into the time left and between two wraps."""
        started_s = self.time.now_s()
        work.run()
        pass_s = self.time.now_s() - started_s
        self._afford(kinds=kinds, window_s=max(self.window_s, pass_s), idle_s=idle_s)
        # The last pass of a window begins before its end and runs on behind it.
        if self.window_s + pass_s > self.headline.longest_window_s:
            raise CannotMeasure(
                f"a window of {self.window_s + pass_s:.3g} s may hold more than one wrap of "
                f"{self.headline.source}"
            )

    def _afford(self, *, kinds: int, window_s: float, idle_s: float) -> None:
        settings = self.settings
        idles_s = 2 * (settings.settle_s + idle_s) if idle_s else 0.0
        if kinds * settings.windows * window_s + idles_s > self.left_s:
            raise CannotMeasure(
                f"{settings.windows} windows of {window_s:.3g} s each (at least "
                f"{settings.min_updates} counter updates and {settings.min_window_s:g} s) do not "
                f"fit into the {self.left_s:.3g} s left of max_total_s={settings.max_total_s:g}"
            )

    # Work

    def _whole(self, max_new_tokens: int | None) -> Work:
        batches = Rotation(self.workload)

        def run() -> None:
            batches.run(max_new_tokens=max_new_tokens)
            self.workload.engine.synchronize()

        return Work(run=run, samples=self.workload.batch_size)

    # Windows

    def _measure(self, work: Work, idle_w: float) -> Series:
        windows = []
        for number in range(self.settings.windows):
            windows.append(
                self.meter.measure_window(
                    work, number=number, at_least_s=self.window_s, idle_w=idle_w
                )
            )
            self.throttling.update(self.instruments.find_throttling())
        return Series(windows=windows)

    def _measure_idle(self) -> dict[str, float]:
        # Clocks and fans take a while to come down.
        self.time.sleep(self.settings.settle_s)
        return self.meter.measure_idle(seconds=self.idle_s)

    # Readings

    def readings(self) -> Iterator[Reading]:
        started_s = self.time.now_s()
        before_w = self._measure_idle()
        idle_w = before_w[self.headline.component]
        series = self._measure(self._whole(None), idle_w)
        after_w = self._measure_idle()
        self.left_s -= self.time.now_s() - started_s
        for counter in self.meter.counters:
            yield self._component_joules(counter, series)
            yield from self._component(counter, series, before_w, after_w)
        try:
            total = self._trusted(series, self.headline)
        except CannotMeasure as reason:
            yield from measure_nothing(str(reason))
            return
        yield from self._headline(series, total)
        yield self._net(series, total, before_w, after_w)
        yield from self._phases(total, idle_w)

    def _trusted(self, series: Series, counter: Counter) -> Estimate:
        estimate = series.estimate(counter.component, self._updates(series))
        uncertainty = _relative_uncertainty(estimate)
        allowed = self.settings.max_relative_uncertainty
        if isinstance(counter, PowerIntegral):
            allowed = min(allowed, POWER_TRUSTED_WITHIN)
        if estimate.value <= 0:
            raise CannotMeasure(f"{counter.source} did not move while passes ran")
        if uncertainty > allowed:
            raise CannotMeasure(
                f"{len(series.windows)} windows of {counter.source} agree only within "
                f"{uncertainty:.2g}, more than the {allowed:g} allowed"
            )
        return estimate

    def _updates(self, series: Series) -> float:
        return series.window_s / self.period_s

    def _headline(self, series: Series, total: Estimate) -> Iterator[Reading]:
        source = (
            f"{self.headline.source}, gross, mean of {len(series.windows)} windows of "
            f"{series.window_s:.3g} s"
        )
        reading = partial(Reading, phase="total", unit="J", status=MEASURED, source=source)
        for number, joules in enumerate(series.per_sample_j(self.headline.component)):
            yield reading(metric="energy_j", value=joules, repeat=number)
        yield reading(metric="energy_j", value=total.value)
        yield reading(metric="energy_ci_low_j", value=total.interval.low)
        yield reading(metric="energy_ci_high_j", value=total.interval.high)

    def _component_joules(self, counter: Counter, series: Series) -> Reading:
        metric = f"energy_{counter.component}_j"
        try:
            estimate = self._trusted(series, counter)
        except CannotMeasure as reason:
            return unavailable("run", metric, "J", str(reason))
        return Reading(
            phase="run",
            metric=metric,
            value=estimate.value,
            unit="J",
            status=MEASURED,
            source=f"{counter.source}, gross",
        )

    def _component(
        self,
        counter: Counter,
        series: Series,
        before_w: dict[str, float],
        after_w: dict[str, float],
    ) -> Iterator[Reading]:
        name = counter.component
        updates = self._updates(series)
        estimate = series.estimate(name, updates)
        figures = {
            "relative_uncertainty": (_relative_uncertainty(estimate), "1"),
            "window_s": (series.window_s, "s"),
            "windows": (len(series.windows), "1"),
            "idle_before_w": (before_w[name], "W"),
            "idle_after_w": (after_w[name], "W"),
        }
        for ending, (value, unit) in figures.items():
            yield Reading(
                phase="run",
                metric=f"energy_{name}_{ending}",
                value=value,
                unit=unit,
                status=MEASURED,
                source=counter.source,
            )
        if counter is self.headline:
            yield from self._pace(updates)

    def _pace(self, updates: float) -> Iterator[Reading]:
        """How often the headline's counter moves, and how often it did so in a window."""
        status, source = MEASURED, self.headline.source
        if isinstance(self.headline, PowerIntegral):
            status, source = ESTIMATED, "the longest time that boards leave between two readings"
        reading = partial(Reading, phase="run", status=status, source=source)
        name = f"energy_{self.headline.component}"
        yield reading(metric=f"{name}_update_period_s", value=self.period_s, unit="s")
        yield reading(metric=f"{name}_updates", value=updates, unit="1")

    def _net(
        self,
        series: Series,
        total: Estimate,
        before_w: dict[str, float],
        after_w: dict[str, float],
    ) -> Reading:
        before, after = before_w[self.headline.component], after_w[self.headline.component]
        idle_w = (before + after) / 2
        if self.throttling:
            reason = f"the board slowed itself down: {', '.join(sorted(self.throttling))}"
            return unavailable("total", "energy_net_j", "J", reason)
        if abs(after - before) > self.settings.max_idle_drift * idle_w:
            reason = f"idle power drifted from {before:.3g} W to {after:.3g} W"
            return unavailable("total", "energy_net_j", "J", reason)
        return Reading(
            phase="total",
            metric="energy_net_j",
            value=total.value - idle_w * series.sample_s,
            unit="J",
            status=DERIVED,
            source=f"gross less {idle_w:.3g} W idle with the model resident",
        )

    # Phases

    def _phases(self, total: Estimate, idle_w: float) -> Iterator[Reading]:
        try:
            vision, first = self._measure_phases(idle_w)
        except CannotMeasure as reason:
            for metric in PHASE_METRICS:
                yield unavailable(metric.split("_")[0], metric, "J", str(reason))
            return
        source = self.headline.source
        yield _phase("vision", vision, MEASURED, f"{source}, vision part alone, its inputs kept")
        yield _phase(
            "prefill",
            subtract(first, vision),
            DERIVED,
            f"{source}: passes of one new token (preprocessing in) less vision alone",
        )
        yield _phase(
            "decode",
            subtract(total, first),
            DERIVED,
            f"{source}: whole passes less passes of one new token",
        )

    def _measure_phases(self, idle_w: float) -> tuple[Estimate, Estimate]:
        if not self.settings.phases:
            raise CannotMeasure("not asked for: energy.phases is false in this profiler")
        self._check(self._whole(1), kinds=2, idle_s=0.0)
        vision = self._measure(vision_work(self.workload), idle_w)
        first = self._measure(self._whole(1), idle_w)
        return self._trusted(vision, self.headline), self._trusted(first, self.headline)


def _phase(phase: str, estimate: Estimate, status: str, source: str) -> Reading:
    interval = estimate.interval
    return Reading(
        phase=phase,
        metric=f"{phase}_energy_j",
        value=estimate.value,
        unit="J",
        status=status,
        source=f"{source}; 95% interval {interval.low:.4g} to {interval.high:.4g} J",
    )


def _relative_uncertainty(estimate: Estimate) -> float:
    """Half of the 95% interval over the value."""
    if not estimate.value:
        return math.inf
    return (estimate.interval.high - estimate.interval.low) / 2 / abs(estimate.value)


def vision_work(workload: Workload) -> Work:
    """The vision part alone, again and again on the inputs that one pass gave it."""
    try:
        repeat = workload.engine.replay("vision", lambda: workload.run(0, max_new_tokens=1))
    except Unsupported as reason:
        raise CannotMeasure(str(reason)) from None
    return Work(run=repeat, samples=workload.batch_size)
