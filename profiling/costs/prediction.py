"""How long a generation takes at least on a device that is not here, and whether it fits.

The least time of a phase is the larger of its operations over the peak FLOP/s and its least
traffic over the peak bytes/s of the data sheet. No program reaches it. Records of the same family
tell which share of it they reached elsewhere, and with that share the prediction is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from profiling.costs.phase_costs import PhaseCosts
from profiling.errors import ConfigError
from profiling.machine.data_sheets import DataSheet, choose_data_sheet
from profiling.records import COMPLETED, Record, read

COMPUTE, MEMORY = "compute", "memory"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The shares of the least time that records reached in one phase."""

    shares: tuple[float, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class PhasePrediction:
    """The least time of a phase, and where records allow it a likely time with its range."""

    phase: str
    least_s: float
    bound_by: str
    reached: Reached | None

    @property
    def likely_s(self) -> float | None:
        return None if self.reached is None else self.least_s / median(self.reached.shares)

    @property
    def range_s(self) -> tuple[float, float] | None:
        """With the best and the worst share."""
        if self.reached is None:
            return None
        return self.least_s / max(self.reached.shares), self.least_s / min(self.reached.shares)


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Bytes of memory, by what they hold."""

    weights: int
    cache: int
    activations: int  # an estimate

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A batch on a device, from the vendor's data sheet."""

    device: str
    sheet: DataSheet
    dtype: str
    phases: tuple[PhasePrediction, ...]
    needed: Needed
    uncertain: tuple[str, ...] = ()  # what the count does not know

    @property
    def least_s(self) -> float:
        return sum(phase.least_s for phase in self.phases)

    @property
    def likely_s(self) -> float | None:
        """None where a phase has no record to scale it by."""
        likely = [phase.likely_s for phase in self.phases]
        return None if None in likely else sum(one for one in likely if one is not None)

    @property
    def fits(self) -> bool | None:
        """None where the data sheet names no size of memory."""
        memory = self.sheet.memory_bytes
        return None if memory is None else self.needed.total <= memory


def predict(
    gpu: str,
    costs: PhaseCosts,
    *,
    dtype: str,
    needed: Needed,
    reached: Mapping[str, Reached],
    uncertain: Sequence[str] = (),
) -> Prediction:
    """The least and the likely time of every phase that there is."""
    device, sheet = choose_data_sheet(gpu)
    if dtype not in sheet.flops_per_s:
        known = ", ".join(sheet.flops_per_s)
        raise ConfigError("gpu", gpu, f"{device} has no {dtype}; allowed are points in {known}")
    phases = []
    for count in costs.counts:
        flops, moved = costs.flops(count.phase), costs.moved_bytes[count.phase]
        if flops is None or moved is None:
            continue
        compute_s, memory_s = flops / sheet.flops_per_s[dtype], moved / sheet.bytes_per_s
        phases.append(
            PhasePrediction(
                phase=count.phase,
                least_s=max(compute_s, memory_s),
                bound_by=COMPUTE if compute_s >= memory_s else MEMORY,
                reached=reached.get(count.phase),
            )
        )
    return Prediction(
        device=device,
        sheet=sheet,
        dtype=dtype,
        phases=tuple(phases),
        needed=needed,
        uncertain=tuple(uncertain),
    )


def shares_reached(results_dir: Path, *, model: str, weights: str) -> dict[str, Reached]:
    """By phase, what quiet runs of a family reached; of the same weights where there are such."""
    records = [one for one in read(results_dir).records if _serves(one, model)]
    same = [one for one in records if one.summary.get("weights") == weights]
    return {
        phase: reached
        for phase in ("vision", "projector", "prefill", "decode")
        if (reached := _reached(same or records, phase)) is not None
    }


def _serves(record: Record, model: str) -> bool:
    summary = record.summary
    return record.status == COMPLETED and summary.get("model") == model and not summary.get("noisy")


def _reached(records: Sequence[Record], phase: str) -> Reached | None:
    found = [(share, one) for one in records if (share := _share(one.summary, phase)) is not None]
    if not found:
        return None
    devices = sorted({_device_of(record) for _, record in found})
    weights = sorted({str(record.summary.get("weights")) for _, record in found})
    source = f"{len(found)} records on {', '.join(devices)}, weights={'/'.join(weights)}"
    return Reached(shares=tuple(share for share, _ in found), source=source)


def _share(summary: Mapping[str, Any], phase: str) -> float | None:
    """Least over measured time; the larger utilization is the same share."""
    shares = [summary.get(f"{short}_{phase}") for short in ("mfu", "mbu")]
    known = [float(share) for share in shares if share]
    return max(known, default=None) if len(known) == len(shares) else None


def _device_of(record: Record) -> str:
    machine = record.run.get("machine", {})
    gpus = machine.get("gpus") or []
    on_gpu = str(record.summary.get("device", "")).startswith("cuda") and gpus
    return str(gpus[0].get("name") if on_gpu else machine.get("cpu_model"))
