"""Find the plain run that each run is held against, and say how they compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.records import COMPLETED, Record

BASELINE = "baseline"
_NOT_MEASURED = ("results_dir", "resume", "strict", "experiment", "hydra")
Answers = Mapping[tuple[str, str], str]


@dataclass(frozen=True, kw_only=True)
class Against:
    """What a run is worth beside its baseline; None where there is nothing to hold it against."""

    baseline: int | None
    agreement: float | None
    speedup: float | None


NOTHING_TO_HOLD_AGAINST = Against(baseline=None, agreement=None, speedup=None)


def hold_against_baselines(records: Sequence[Record], answers: Sequence[Answers]) -> list[Against]:
    """For each record, its agreement with and its speed-up over its own baseline."""
    keys = [identify_setting(record, "optimization") for record in records]
    newest = _newest_baselines(records, keys)
    return [_hold(records, answers, position, newest.get(key)) for position, key in enumerate(keys)]


def identify_setting(record: Record, *without: str) -> str:
    """Everything that two runs must share to differ by some keys of the configuration alone."""
    config = {k: v for k, v in record.config.items() if k not in (*_NOT_MEASURED, *without)}
    facts = [
        config,
        identify_machine(record),
        record.run.get("versions"),
        record.run.get("digests"),
    ]
    return json.dumps(facts, sort_keys=True)


def identify_machine(record: Record) -> dict[str, Any]:
    """What decides whether two runs were made on the same kind of machine."""
    machine = record.run["machine"]
    models = machine.get("gpu_models")
    if models is None:
        models = sorted({gpu["name"] for gpu in machine.get("gpus") or ()})
    named = ("cpu_model", "gpu_driver", "operating_system")
    return {"gpu_models": list(models), **{name: machine.get(name) for name in named}}


def started(record: Record) -> tuple[str, str]:
    """Orders runs by time; the folder's name settles a tie."""
    return str(record.run.get("started_at") or ""), record.folder.name


def _newest_baselines(records: Sequence[Record], keys: Sequence[str]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for position in sorted(range(len(records)), key=lambda i: started(records[i])):
        record = records[position]
        if record.status == COMPLETED and record.summary.get("optimization") == BASELINE:
            newest[keys[position]] = position
    return newest


def _hold(
    records: Sequence[Record], answers: Sequence[Answers], position: int, baseline: int | None
) -> Against:
    if baseline is None or records[position].status != COMPLETED:
        return NOTHING_TO_HOLD_AGAINST
    return Against(
        baseline=baseline,
        agreement=share_of_equal(answers[position], answers[baseline]),
        speedup=_divide(
            records[baseline].summary.get("latency_s"), records[position].summary.get("latency_s")
        ),
    )


def share_of_equal(mine: Answers, other: Answers) -> float | None:
    """The share of equal answers, where both runs answered the very same samples."""
    if not mine or mine.keys() != other.keys():
        return None
    return sum(answer == other[sample] for sample, answer in mine.items()) / len(mine)


def _divide(numerator: Any, denominator: Any) -> float | None:
    return numerator / denominator if numerator and denominator else None
