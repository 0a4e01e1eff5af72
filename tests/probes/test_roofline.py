"""Phases under the roof of their device, each repeat with the costs of the batch that it timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.costs.phase_costs import PhaseCosts, PhaseCount
from profiling.engines.engine import Footprint
from profiling.engines.trace import COUNTED_PHASES
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.machine.noise import NoiseLimits
from profiling.machine.peaks import NoPeaks, Peaks
from profiling.probes import roofline
from profiling.probes.roofline import place_phases
from profiling.records import DERIVED, MEASURED, UNAVAILABLE, Reading
from tests.composing import compose_point
from tests.tiny_models import load, take_samples

ROOF = Peaks(
    device_name="a device",
    dtype="float32",
    flops_per_s=1e12,
    bytes_per_s=1e11,
    matmul_shape=(64, 64, 64),
    threads=1,
    copy_bytes=1,
)
LIMITS = NoiseLimits(**compose_point("profiler=quick").profiler["noise"])
# FLOPs of a batch of cost 1 and its bytes, by phase; there is no projector.
FLOPS: Mapping[str, int | None] = {
    "vision": 6 * 10**9,
    "projector": None,
    "prefill": 10**9,
    "decode": 10**7,
}
MOVED = {"vision": 10**7, "projector": None, "prefill": 10**7, "decode": 10**8}


class Counted:
    """A workload whose batches cost so many times as much as one of cost 1."""

    max_new_tokens = 4

    def __init__(self, *costs: int, **changes: Any) -> None:
        self.costs, self.changes = costs, changes
        self.batches = [()] * len(costs)
        self.counted: list[int] = []
        self.engine = SimpleNamespace(footprint=self.footprint, costs=self.count)

    def encode(self, index: int) -> int:
        return index

    def footprint(self) -> Footprint:
        return Footprint(
            pids=(),
            device="cpu",
            gpu_uuid=None,
            dtype=self.changes.get("dtype", "float32"),
            computes_in=None,
            model_bytes=None,
            accelerator=None,
        )

    def count(self, index: int, *, length: int, cross_check: bool) -> PhaseCosts:
        assert (length, cross_check) == (self.max_new_tokens, False)
        self.counted.append(index)
        factor = self.costs[index]
        times = {phase: value and value * factor for phase, value in FLOPS.items()}
        return PhaseCosts(
            counts=tuple(
                PhaseCount(phase=phase, counted=value, analytic=value, fvcore=None)
                for phase, value in times.items()
            ),
            steps={},
            uncounted=self.changes.get("uncounted", frozenset()),
            moved_bytes={phase: value and value * factor for phase, value in MOVED.items()},
            as_computed=self.changes.get("as_computed", True),
            source="counted",
            cross_sources={},
        )


def timed(phase: str, *repeats: tuple[int, float]) -> Iterator[Reading]:
    """A reading for each batch and its seconds, and the phase's FLOPs as a probe states them."""
    for number, (batch, seconds) in enumerate(repeats):
        yield Reading(
            phase=phase,
            metric="latency_s",
            value=seconds,
            unit="s",
            status=MEASURED,
            source="a test",
            repeat=number,
            batch=batch,
        )
    yield flops_of(phase, 1.0)


def flops_of(phase: str, value: float | None) -> Reading:
    status = UNAVAILABLE if value is None else DERIVED
    return Reading(
        phase=phase,
        metric=f"flops_{phase}",
        value=value,
        unit="FLOP",
        status=status,
        source="a test",
    )


def place(
    monkeypatch: pytest.MonkeyPatch,
    workload: Any,
    *readings: Reading,
    find: Callable[..., Peaks] = lambda *_, **__: ROOF,
    most_batches: int = 16,
) -> dict[str, Reading]:
    monkeypatch.setattr(roofline, "find_peaks", find)
    found = place_phases(
        workload,
        readings,
        limits=LIMITS,
        target_s=0.1,
        copy_bytes=1,
        most_batches=most_batches,
    )
    return {reading.metric: reading for reading in found}


def test_shares_are_those_of_the_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(monkeypatch, Counted(1), *timed("prefill", (0, 0.01)))
    assert found["mfu_prefill"].value == pytest.approx(1e9 / 0.01 / 1e12)
    assert found["mbu_prefill"].value == pytest.approx(1e7 / 0.01 / 1e11)
    assert found["intensity_prefill"].value == pytest.approx(100)
    assert found["moved_prefill_bytes"].value == 1e7
    assert found["least_prefill_s"].value == pytest.approx(1e-3)
    assert "bound by compute" in found["least_prefill_s"].source


def test_traffic_bounds_what_moves_much_and_computes_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = place(monkeypatch, Counted(1), *timed("decode", (0, 0.01)))
    assert found["least_decode_s"].value == pytest.approx(1e8 / 1e11)
    assert found["mbu_decode"].value == pytest.approx(0.1)
    assert "bound by memory" in found["mbu_decode"].source


# Batches that differ


ORDERS = [(*[1] * position, 100, *[1] * (5 - position)) for position in range(6)]


@pytest.mark.parametrize("costs", ORDERS)
def test_each_repeat_is_divided_by_the_costs_of_its_own_batch(
    costs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch at the same rate: wherever the dear one stands, that is the share."""
    repeats = [(batch, 0.01 * cost) for batch, cost in enumerate(costs)]
    found = place(monkeypatch, Counted(*costs), *timed("prefill", *repeats, *repeats))
    assert found["mfu_prefill"].value == pytest.approx(0.1)
    assert found["mbu_prefill"].value == pytest.approx(0.01)
    # The median repeat's, which is no more than what it took.
    assert found["least_prefill_s"].value == pytest.approx(1e-3)
    assert "median of 12 repeats, each with the costs of its batch" in found["mfu_prefill"].source


def test_least_times_follow_the_batches_that_were_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch is far dearer than those that are timed."""
    readings = timed("prefill", (1, 0.02), (2, 0.02), (1, 0.02))
    found = place(monkeypatch, Counted(1000, 1, 2), *readings)
    assert found["least_prefill_s"].value == pytest.approx(1e-3)
    assert found["mfu_prefill"].value == pytest.approx(0.05)


def test_shares_are_medians_over_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = timed("prefill", (0, 0.01), (0, 0.02), (0, 5.0))
    found = place(monkeypatch, Counted(1), *readings)
    assert found["mfu_prefill"].value == pytest.approx(0.05)


def test_each_batch_is_counted_once_and_of_many_only_some(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats = [(batch, 0.01 * (batch + 1)) for batch in (3, 1, 2, 4, 3, 1, 2, 4)]
    workload = Counted(*range(1, 6))
    found = place(monkeypatch, workload, *timed("prefill", *repeats), most_batches=3)
    assert workload.counted == [0, 3, 1]
    # The repeats of the other batches are left out.
    assert found["mfu_prefill"].value == pytest.approx(0.1)
    assert "median of 4 repeats" in found["mfu_prefill"].source


def long_question(position: int) -> Workload:
    """Six samples, one of which asks 750 words."""
    samples = list(take_samples(6))
    samples[position] = replace(samples[position], request="what is it? " * 250)
    return Workload(
        engine=load("llava"),
        batches=[[sample] for sample in samples],
        img_size=112,
        prompt_len=None,
        max_new_tokens=4,
        preload=True,
    )


def flops_of_batch(workload: Workload, index: int, phase: str) -> int:
    inputs = workload.encode(index)
    flops = workload.engine.costs(inputs, length=4, cross_check=False).flops(phase)
    assert flops is not None
    return flops


@pytest.mark.parametrize("position", [0, 5])
def test_the_order_of_samples_does_not_matter(
    position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real engine's costs, and times as if each phase ran at a tenth of the peak."""
    workload = long_question(position)
    flops = {phase: [flops_of_batch(workload, i, phase) for i in range(6)] for phase in FLOPS}
    readings = [
        reading
        for phase, values in flops.items()
        for reading in timed(phase, *((batch, one / 1e11) for batch, one in enumerate(values)))
    ]
    found = place(monkeypatch, workload, *readings)
    prefills = flops["prefill"]
    assert max(prefills) == prefills[position] > 15 * min(prefills)
    for phase in COUNTED_PHASES:
        assert found[f"mfu_{phase}"].value == pytest.approx(0.1)


# What is not known


def test_the_highest_rate_of_a_phase_is_what_a_peak_must_exceed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def find(*_: object, reached_flops_per_s: float, **__: object) -> Peaks:
        asked.append(reached_flops_per_s)
        return ROOF

    readings = [
        *timed("prefill", (0, 0.01), (1, 0.02)),
        *timed("vision", (0, 0.02), (1, 0.04)),
        # Not timed.
        flops_of("decode", 1e12),
    ]
    place(monkeypatch, Counted(1, 2), *readings, find=find)
    # An engine that computes other things than are counted tells nothing of the peak.
    place(monkeypatch, Counted(1, 2, as_computed=False), *readings, find=find)
    assert asked == pytest.approx([3e11, 0.0])


@pytest.mark.parametrize(
    ("optimization", "as_computed"), [("baseline", True), ("int8", False), ("vision_cache", False)]
)
def test_an_engine_knows_whether_it_computes_what_is_counted(
    optimization: str, as_computed: bool
) -> None:
    engine = load("llava", f"optimization={optimization}")
    inputs = engine.encode(engine.prepare(take_samples(1), None), 112)
    assert engine.costs(inputs, length=2, cross_check=False).as_computed is as_computed


def test_without_peaks_there_are_no_shares_and_the_reason_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(*_: object, **__: object) -> Peaks:
        raise NoPeaks("the machine was busy")

    found = place(monkeypatch, Counted(1), *timed("prefill", (0, 0.01)), find=find)
    metrics = ("peak_flops_per_s", "peak_bytes_per_s", "mfu_prefill", "mbu_prefill")
    for metric in (*metrics, "least_prefill_s"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert "the machine was busy" in found[metric].source
    assert found["intensity_prefill"].value == pytest.approx(100)


def test_more_than_the_whole_peak_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(ROOF, flops_per_s=1e9, bytes_per_s=1e6)
    readings = timed("prefill", (0, 0.01))
    found = place(monkeypatch, Counted(1), *readings, find=lambda *_, **__: slow)
    for metric, reason in (("mfu_prefill", "highest rate"), ("mbu_prefill", "cache")):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert reason in found[metric].source


@pytest.mark.parametrize(
    ("readings", "changes"),
    [
        ([flops_of("prefill", 1e9)], {}),
        ([*timed("prefill", (0, 0.01))], {"uncounted": frozenset({"strange::product"})}),
        ([next(timed("prefill", (0, 0.01)))], {}),
        ([next(timed("prefill", (0, 0.01))), flops_of("prefill", None)], {}),
    ],
    ids=["not timed", "an operator without a formula", "not counted", "counts disagree"],
)
def test_a_phase_of_unknown_time_or_cost_is_not_placed(
    readings: list[Reading], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = place(monkeypatch, Counted(1, **changes), *readings)
    for metric in ("mfu_prefill", "mbu_prefill"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
    assert "least_prefill_s" not in found


def test_a_phase_that_there_is_not_is_not_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(monkeypatch, Counted(1), *timed("projector", (0, 0.01)))
    assert found["mfu_projector"].status == UNAVAILABLE


def test_an_engine_that_shows_no_costs_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Counted(1)

    def refuse(*_: object, **__: object) -> None:
        raise Unsupported("the server does not tell")

    workload.engine.costs = refuse
    found = place(
        monkeypatch,
        workload,
        *timed("prefill", (0, 0.01)),
        find=lambda *_, **__: pytest.fail("it was measured"),
    )
    assert set(found) == {f"{share}_{phase}" for share in ("mfu", "mbu") for phase in FLOPS}
    assert {reading.source for reading in found.values()} == {"the server does not tell"}


def test_an_engine_of_unknown_dtype_has_no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(
        monkeypatch,
        Counted(1, dtype=None),
        *timed("prefill", (0, 0.01)),
        find=lambda *_, **__: pytest.fail("it was measured"),
    )
    assert "does not show the dtype" in found["mfu_prefill"].source
