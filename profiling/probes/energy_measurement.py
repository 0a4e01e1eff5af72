"""Joules of a workload by windows of whole passes: what fits, what can be trusted, by phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

from profiling.engines.workload import Rotation, Workload
from profiling.errors import ConfigError, Unsupported
from profiling.machine.clock import Time
from profiling.machine.nvml import POWER_PERIOD_S, NoBoardEnergy, NotTold, PowerIntegral
from profiling.probes.energy_window import Counter, Meter, Window, Work, measure_update_period
from profiling.probes.instruments import Instruments
from profiling.records import DERIVED, ESTIMATED, MEASURED, Reading, reading, unavailable
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
        """Joules over samples; what all windows may have wrong alike is added to their spread.

        That is the error of one step of the counter, and what the counter itself is in doubt of,
        anywhere between the bounds of which it may be off.
        """
        mean = estimate_mean(self._deviating_j(component))
        step = abs(mean.value) / (updates * math.sqrt(12 * len(self.windows)))
        doubt = self._doubt_j(component) / math.sqrt(3)
        return replace(mean, standard_error=math.hypot(mean.standard_error, step, doubt))

    def _deviating_j(self, component: str) -> list[float]:
        """All joules over all samples, for each window with what it deviates from that.

        A window of dear passes holds fewer of them: the mean of the windows' own quotients would
        give these too much weight.
        """
        joules = [window.joules[component] for window in self.windows]
        samples = [window.samples for window in self.windows]
        ratio, usual = sum(joules) / sum(samples), sum(samples) / len(samples)
        return [ratio + (j - ratio * n) / usual for j, n in zip(joules, samples, strict=True)]

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
        yield unavailable(metric, reason)
    for metric in PHASE_METRICS:
        yield unavailable(metric, reason)


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
        least_s = settings.min_window_s
        self._require(self._too_long(kinds=1, window_s=least_s, idle_s=settings.idle_s))
        self.period_s = self._find_period()
        least_s = settings.min_updates * self.period_s
        self.window_s = max(settings.min_window_s, least_s * self._updates_for_one)
        self.idle_s = max(settings.idle_s, least_s)
        self.whole = self._fit(self._whole(None), kinds=1, idle_s=self.idle_s)
        self.meter = Meter(
            counters=instruments.ordered(),
            period_s=self.period_s,
            time=self.time,
            shifts=isinstance(self.headline, PowerIntegral),
        )
        self.throttling: set[str] = set()
        self.throttling_untold: str | None = None

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

    def _fit(self, work: Work, *, kinds: int, idle_s: float) -> Work:
        """The work in windows of whole cycles where these fit, and of any passes where they do not.

        Windows have to fit into the time left and between two wraps of the counter.
        """
        longest_s = (self.left_s - self._idles_s(idle_s)) / (kinds * self.settings.windows)
        passes, spent_s = self._time_passes(work, at_most_s=longest_s)
        if 1 < work.cycle == passes:
            whole_s = math.ceil(self.window_s / spent_s) * spent_s
            if whole_s <= longest_s and self._may_wrap(spent_s) is None:
                return work
        pass_s = spent_s / passes
        window_s = max(self.window_s, pass_s)
        self._require(self._too_long(kinds=kinds, window_s=window_s, idle_s=idle_s))
        self._require(self._may_wrap(pass_s))
        return replace(work, cycle=1)

    def _time_passes(self, work: Work, *, at_most_s: float) -> tuple[int, float]:
        """A cycle of passes, or as much of one as a window could hold, and the seconds it took."""
        started_s, passes, spent_s = self.time.now_s(), 0, 0.0
        while passes == 0 or (passes < work.cycle and spent_s <= at_most_s):
            work.run()
            passes += 1
            spent_s = self.time.now_s() - started_s
        return passes, spent_s

    def _idles_s(self, idle_s: float) -> float:
        return 2 * (self.settings.settle_s + idle_s) if idle_s else 0.0

    def _too_long(self, *, kinds: int, window_s: float, idle_s: float) -> str | None:
        settings = self.settings
        if kinds * settings.windows * window_s + self._idles_s(idle_s) <= self.left_s:
            return None
        return (
            f"{settings.windows} windows of {window_s:.3g} s each (at least "
            f"{settings.min_updates} counter updates and {settings.min_window_s:g} s) do not "
            f"fit into the {self.left_s:.3g} s left of max_total_s={settings.max_total_s:g}"
        )

    def _may_wrap(self, last_s: float) -> str | None:
        """Of a window whose last passes begin before its end and run on behind it."""
        longest_s = self.window_s + last_s
        if longest_s <= self.headline.longest_window_s:
            return None
        return (
            f"a window of {longest_s:.3g} s may hold more than one wrap of {self.headline.source}"
        )

    @staticmethod
    def _require(refusal: str | None) -> None:
        if refusal is not None:
            raise CannotMeasure(refusal)

    # Work

    def _whole(self, max_new_tokens: int | None) -> Work:
        batches = Rotation(self.workload)

        def run() -> None:
            batches.run(max_new_tokens=max_new_tokens)
            self.workload.engine.synchronize()

        return Work(run=run, samples=self.workload.batch_size, cycle=len(batches))

    def _describe_cycle(self, work: Work) -> str:
        batches = len(self.workload.batches)
        if batches == 1:
            return ""
        share = "whole cycles" if work.cycle == batches else "a part of a cycle"
        return f", each of {share} of {batches} batches"

    # Windows

    def _measure(self, work: Work, idle_w: float) -> Series:
        windows = []
        for number in range(self.settings.windows):
            windows.append(
                self.meter.measure_window(
                    work, number=number, at_least_s=self.window_s, idle_w=idle_w
                )
            )
            self._look_for_throttling()
        return Series(windows=windows)

    def _look_for_throttling(self) -> None:
        try:
            self.throttling.update(self.instruments.find_throttling())
        except NotTold as reason:
            self.throttling_untold = str(reason)

    def _measure_idle(self) -> dict[str, float]:
        # Clocks and fans take a while to come down.
        self.time.sleep(self.settings.settle_s)
        return self.meter.measure_idle(seconds=self.idle_s)

    def _measure_whole(self) -> tuple[dict[str, float], Series, dict[str, float]]:
        """Idle watts, windows of whole passes, and idle watts again."""
        before_w = self._measure_idle()
        series = self._measure(self.whole, before_w[self.headline.component])
        return before_w, series, self._measure_idle()

    # Readings

    def readings(self) -> Iterator[Reading]:
        started_s = self.time.now_s()
        try:
            before_w, series, after_w = self._measure_whole()
        except NoBoardEnergy as reason:
            yield from measure_nothing(str(reason))
            return
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
        yield from self._phases(total, before_w[self.headline.component])

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
            f"{series.window_s:.3g} s{self._describe_cycle(self.whole)}"
        )
        row = partial(reading, status=MEASURED, source=source)
        for number, joules in enumerate(series.per_sample_j(self.headline.component)):
            yield row(metric="energy_j", value=joules, repeat=number)
        yield row(metric="energy_j", value=total.value)
        yield row(metric="energy_ci_low_j", value=total.interval.low)
        yield row(metric="energy_ci_high_j", value=total.interval.high)

    def _component_joules(self, counter: Counter, series: Series) -> Reading:
        metric = f"energy_{counter.component}_j"
        try:
            estimate = self._trusted(series, counter)
        except CannotMeasure as reason:
            return unavailable(metric, str(reason))
        return reading(
            metric=metric,
            value=estimate.value,
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
            "relative_uncertainty": _relative_uncertainty(estimate),
            "window_s": series.window_s,
            "windows": len(series.windows),
            "idle_before_w": before_w[name],
            "idle_after_w": after_w[name],
        }
        for ending, value in figures.items():
            yield reading(
                metric=f"energy_{name}_{ending}",
                value=value,
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
        row = partial(reading, status=status, source=source)
        name = f"energy_{self.headline.component}"
        yield row(
            metric=f"{name}_update_period_s",
            value=self.period_s,
        )
        yield row(
            metric=f"{name}_updates",
            value=updates,
        )

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
            return unavailable("energy_net_j", reason)
        if abs(after - before) > self.settings.max_idle_drift * idle_w:
            reason = f"idle power drifted from {before:.3g} W to {after:.3g} W"
            return unavailable("energy_net_j", reason)
        return reading(
            metric="energy_net_j",
            value=total.value - idle_w * series.sample_s,
            status=DERIVED,
            source=f"gross less {idle_w:.3g} W idle with the model resident{self._untold()}",
        )

    def _untold(self) -> str:
        untold = self.throttling_untold
        return "" if untold is None else f"; throttling is not known: {untold}"

    # Phases

    def _phases(self, total: Estimate, idle_w: float) -> Iterator[Reading]:
        try:
            vision, first, kept = self._measure_phases(idle_w)
        except (CannotMeasure, NoBoardEnergy) as reason:
            for metric in PHASE_METRICS:
                yield unavailable(metric, str(reason))
            return
        source = self.headline.source
        batches = len(self.workload.batches)
        of_batches = f" of {kept} of {batches} batches" if batches > 1 else ""
        alone = f"vision part alone, its inputs{of_batches} kept"
        yield _phase("vision", vision, MEASURED, f"{source}, {alone}")
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

    def _measure_phases(self, idle_w: float) -> tuple[Estimate, Estimate, int]:
        """Vision alone, passes of one token, and of how many batches the vision part was kept."""
        if not self.settings.phases:
            raise CannotMeasure("not asked for: energy.phases is false in this profiler")
        first = self._fit(self._whole(1), kinds=2, idle_s=0.0)
        # Whole cycles of the vision part take less than those of passes that hold it.
        fits = first.cycle == len(self.workload.batches)
        at_most_s = math.inf if fits else self.settings.min_window_s
        alone = vision_work(self.workload, at_most_s=at_most_s, time=self.time)
        fitted = alone if fits else replace(alone, cycle=1)
        vision, passes = self._measure(fitted, idle_w), self._measure(first, idle_w)
        headline = self.headline
        return self._trusted(vision, headline), self._trusted(passes, headline), alone.cycle


def _phase(phase: str, estimate: Estimate, status: str, source: str) -> Reading:
    interval = estimate.interval
    return reading(
        metric=f"{phase}_energy_j",
        value=estimate.value,
        status=status,
        source=f"{source}; 95% interval {interval.low:.4g} to {interval.high:.4g} J",
    )


def _relative_uncertainty(estimate: Estimate) -> float:
    """Half of the 95% interval over the value."""
    if not estimate.value:
        return math.inf
    return (estimate.interval.high - estimate.interval.low) / 2 / abs(estimate.value)


def vision_work(workload: Workload, *, at_most_s: float, time: Time) -> Work:
    """The vision part alone, on the inputs that it gets in a pass of each batch.

    These passes may take so long together: of more batches than that, a fair sample is kept.
    """
    batches, started_s = Rotation(workload), time.now_s()
    replays: list[Callable[[], None]] = []
    while not replays or (len(replays) < len(batches) and time.now_s() - started_s < at_most_s):
        one_token = partial(workload.run, batches.next_batch(), max_new_tokens=1)
        try:
            replays.append(workload.engine.replay("vision", one_token))
        except Unsupported as reason:
            raise CannotMeasure(str(reason)) from None
    turns = cycle(enumerate(replays))

    def run() -> None:
        position, replay = next(turns)
        if position == 0:
            workload.engine.begin_pass()
        replay()

    return Work(run=run, samples=workload.batch_size, cycle=len(replays))
