"""The latency probe on passes of known length."""

from __future__ import annotations

import statistics
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.engines.trace import PHASES, HostClock, Timing
from profiling.probes.latency import PROBE, LatencyProbe
from profiling.records import (
    AT_READING,
    DERIVED,
    MEASURED,
    SUMMARY_COLUMNS,
    UNAVAILABLE,
    Reading,
    summarize,
)

SHARES = {
    "preprocess": 0.1,
    "transfer": 0.02,
    "vision": 0.2,
    "projector": 0.03,
    "prefill": 0.25,
    "decode": 0.35,
    "other": 0.05,
}


class Scripted:
    """A workload whose passes take the next of a list of seconds each."""

    def __init__(
        self,
        seconds: list[float],
        *,
        blind: tuple[str, ...] = (),
        num_batches: int = 3,
        batch_size: int = 4,
        num_tokens: int = 10,
        tokens_by_pass: list[int] | None = None,
    ) -> None:
        self.batches: list[list[Any]] = [[]] * num_batches
        self.batch_size, self.num_tokens = batch_size, num_tokens
        self.ran: list[int] = []
        self._seconds = iter(seconds)
        self._tokens = iter(tokens_by_pass or ())
        self.begun_at: list[int] = []
        self.engine = SimpleNamespace(
            blind={phase: f"the engine shows no {phase}" for phase in blind},
            clock=HostClock,
            begin_pass=lambda: self.begun_at.append(len(self.ran)),
        )

    def run_timed(self, index: int) -> Timing:
        self.ran.append(index)
        seconds = next(self._seconds)
        shares = {phase: share for phase, share in SHARES.items() if phase not in self.engine.blind}
        shares["other"] += 1 - sum(shares.values())
        return Timing(
            latency_s=seconds,
            phases_s={phase: share * seconds for phase, share in shares.items()},
            ttft_s=0.65 * seconds,
            tpot_s=0.3 * seconds / (self.num_tokens - 1) if self.num_tokens > 1 else None,
            num_tokens=next(self._tokens, self.num_tokens),
        )


def make_probe(**changes: Any) -> LatencyProbe:
    settings = {
        "repeats": None,
        "time_budget_s": 1000.0,
        "relative_target": 0.03,
        "minimum": 3,
        "maximum": 40,
        "warmup_window": 2,
        "warmup_tolerance": 0.1,
        "warmup_cap": 4,
    }
    return PROBE(**(settings | changes))


def measure(workload: Scripted, **changes: Any) -> list[Reading]:
    return list(make_probe(**changes).measure(workload))  # type: ignore[arg-type]


WARM = [7.0, 7.0, 7.0]


def test_the_columns_are_what_the_repeats_say() -> None:
    repeats = [1.0, 4.0, 2.0, 3.0, 10.0]
    summary = summarize(measure(Scripted([*WARM, *repeats]), repeats=5))
    assert summary["latency_s"] == 3.0
    assert summary["latency_mean_s"] == 4.0
    assert summary["latency_min_s"] == 1.0
    assert summary["latency_max_s"] == 10.0
    assert summary["latency_std_s"] == pytest.approx(statistics.stdev(repeats))
    assert summary["num_repeats"] == 5
    assert summary["num_warmup"] == 3
    for phase, share in SHARES.items():
        assert summary[f"{phase}_s"] == pytest.approx(share * 3.0)
    assert summary["ttft_s"] == pytest.approx(0.65 * 3.0)
    assert summary["tpot_s"] == pytest.approx(0.3 * 3.0 / 9)


def test_rates_count_all_samples_and_all_timed_tokens_of_a_batch() -> None:
    workload = Scripted([*WARM, 2.0, 2.0, 2.0], batch_size=4, num_tokens=10)
    summary = summarize(measure(workload, repeats=3))
    assert summary["samples_per_s"] == pytest.approx(4 / 2.0)
    assert summary["tokens_per_s"] == pytest.approx(4 * 10 / 2.0)


def test_passes_of_different_lengths_count_by_their_mean() -> None:
    for lengths in ([2, 10, 6], [10, 6, 2]):
        tokens = [9, 9, 9, *lengths]
        workload = Scripted([*WARM, 2.0, 2.0, 2.0], batch_size=4, tokens_by_pass=tokens)
        assert summarize(measure(workload, repeats=3))["tokens_per_s"] == pytest.approx(4 * 6 / 2)


@pytest.mark.parametrize("repeats", [1, 3, 7])
def test_repeats_as_told_are_exactly_so_many(repeats: int) -> None:
    workload = Scripted([*WARM, *range(1, 99)])  # type: ignore[list-item]
    readings = measure(workload, repeats=repeats)
    raw = [r for r in readings if r.phase == "total" and r.repeat is not None]
    assert len(raw) == repeats
    assert len(workload.ran) == len(WARM) + repeats
    (count,) = (r for r in readings if r.metric == "num_repeats")
    assert (count.value, count.source) == (repeats, "ended by fixed")


def test_it_stops_at_the_maximum_and_not_before_the_minimum() -> None:
    wild = [*WARM, *(1.0 + 5 * (i % 2) for i in range(99))]
    (most,) = (r for r in measure(Scripted(wild), maximum=12) if r.metric == "num_repeats")
    assert (most.value, most.source) == (12, "ended by maximum")
    quick = [seconds * 1e-12 for seconds in wild]
    hurried = measure(Scripted(quick), time_budget_s=1e-9, minimum=6)
    (least,) = (r for r in hurried if r.metric == "num_repeats")
    assert (least.value, least.source) == (6, "ended by time_budget")


def test_passes_that_outlast_the_time_budget_are_few_and_the_record_says_so() -> None:
    workload = Scripted([60.0] * 99)
    readings = {r.metric: r for r in measure(workload, time_budget_s=30.0, minimum=10)}
    assert len(workload.ran) == 3
    warm, count = readings["num_warmup"], readings["num_repeats"]
    assert (warm.value, count.value) == (1, 2)
    assert "cut off at the time budget" in warm.source
    assert "a pass that outlasts the time budget" in count.source


def test_a_step_while_measuring_is_reported() -> None:
    repeats = [
        *(1.0 + 0.01 * (i % 3) for i in range(20)),
        *(1.4 + 0.01 * (i % 3) for i in range(20)),
    ]
    readings = measure(Scripted([*WARM, *repeats]), repeats=40)
    (count,) = (r for r in readings if r.metric == "num_repeats")
    assert count.source == "ended by fixed; the latency steps up by 40% at repeat 21"


def test_warming_up_ends_at_its_cap_and_says_so() -> None:
    readings = measure(Scripted([64.0, 32.0, 16.0, 8.0, 1.0, 1.0, 1.0]), repeats=3)
    (warm,) = (r for r in readings if r.metric == "num_warmup")
    assert warm.value == 4
    assert "cap" in warm.source
    assert summarize(readings)["latency_s"] == 1.0


def test_every_batch_is_taken_before_one_is_taken_again() -> None:
    workload = Scripted([1.0] * 99, num_batches=5)
    readings = measure(workload, repeats=10)
    batches = [r.batch for r in readings if r.phase == "total" and r.repeat is not None]
    assert batches == workload.ran[-10:]
    assert set(Counter(batches).values()) == {2}
    assert set(batches[:5]) == set(range(5))


def test_every_repeat_leaves_its_phases_and_they_add_up() -> None:
    readings = measure(Scripted([*WARM, 1.0, 2.0, 3.0]), repeats=3)
    for repeat, seconds in enumerate((1.0, 2.0, 3.0)):
        rows = {r.phase: r for r in readings if r.repeat == repeat}
        assert set(rows) == {"total", *PHASES}
        assert {r.metric for r in rows.values()} == {"latency_s"}
        assert rows["total"].value == seconds
        assert sum(rows[phase].value or 0.0 for phase in PHASES) == pytest.approx(seconds)
        assert rows["other"].status == DERIVED
        assert rows["vision"].status == MEASURED


def test_what_cannot_be_had_is_absent_with_a_reason() -> None:
    workload = Scripted([*WARM, 1.0], blind=("projector",), num_tokens=1)
    readings = measure(workload, repeats=1)
    absent = {r.metric: r for r in readings if r.status == UNAVAILABLE}
    assert {"projector_s", "tpot_s", "latency_std_s", "latency_ci_low_s"} <= absent.keys()
    for reading in absent.values():
        assert reading.value is None
        assert len(reading.source) > 10
    assert "one token" in absent["tpot_s"].source
    assert "projector" in absent["projector_s"].source


def test_a_blind_phase_is_unavailable_and_in_no_row() -> None:
    workload = Scripted([*WARM, 1.0, 2.0, 3.0], blind=("vision", "projector", "prefill"))
    readings = measure(workload, repeats=3)
    aggregates = {r.metric: r for r in readings if r.is_aggregate}
    for phase in ("vision", "projector", "prefill"):
        reading = aggregates[f"{phase}_s"]
        assert (reading.value, reading.status) == (None, UNAVAILABLE)
        assert reading.source == f"the engine shows no {phase}"
    assert aggregates["other_s"].value == pytest.approx((0.05 + 0.2 + 0.03 + 0.25) * 2.0)
    assert {r.phase for r in readings if r.repeat is not None} == {
        *("total", "preprocess", "transfer", "decode", "other")
    }


def test_what_warm_up_left_is_forgotten_before_the_first_repeat_and_at_each_cycle() -> None:
    workload = Scripted([*WARM, *[1.0] * 10], num_batches=3)
    measure(workload, repeats=8)
    warm = len(WARM)
    # Warm-up is one cycle; the repeats begin with three, of which the last is not whole.
    assert workload.begun_at == [0, warm, warm + 3, warm + 6]
    assert workload.ran[warm : warm + 3] == workload.ran[:3]


def test_every_column_of_time_is_filled_or_explained() -> None:
    metrics = [r.metric for r in measure(Scripted([*WARM, *[1.0] * 9]), repeats=9)]
    columns = {
        column
        for column in set(SUMMARY_COLUMNS) - set(AT_READING)
        if column.startswith("latency_") or column in ("ttft_s", "tpot_s", "samples_per_s")
    }
    columns |= {f"{phase}_s" for phase in PHASES} | {"tokens_per_s", "num_repeats"}
    assert columns <= set(metrics)
    aggregates = Counter(metric for metric in metrics if metric != "latency_s")
    assert set(aggregates.values()) == {1}
