"""Find the baseline of each run, and compare the run with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiling.records import COMPLETED, Record
from profiling.report.read.keys import NOT_MEASURED
from profiling.report.read.paired import PairedTable, PairedTimes

# A baseline has this optimization and this engine; a record without an engine had the same one.
BASELINE = "baseline"
PLAIN_ENGINE = "torch"
# Where a speed-up comes from.
PAIRED, SEPARATE_RUNS = "paired", "separate runs"
Answers = Mapping[tuple[str, str], str]
# Digests that follow from a key: runs that differ in the key differ in them too.
_FOLLOWING = {
    "model": "weights",
    "optimization": "calibration",
    "num_pictures": "samples",
    "num_frames": "samples",
}


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """A run compared with its baseline; None where there is none.

    `separate` divides the latencies of two runs; `paired` is the baseline's time over this one.
    """

    baseline: int | None
    agreement: float | None
    separate: float | None
    paired: PairedTimes | None

    def columns(self) -> dict[str, Any]:
        """The columns that are filled when a report is read."""
        return {"agreement": self.agreement, **self._speedup()}

    def _speedup(self) -> dict[str, Any]:
        if self.paired is not None:
            ratio = self.paired.whole
            ends = {"speedup_ci_low": ratio.low, "speedup_ci_high": ratio.high}
            return {"speedup": ratio.value, **ends, "speedup_source": PAIRED}
        source = None if self.separate is None else SEPARATE_RUNS
        return {"speedup": self.separate, "speedup_source": source}


NO_BASELINE = BaselineComparison(baseline=None, agreement=None, separate=None, paired=None)


def compare_with_baselines(
    records: Sequence[Record], answers: Sequence[Answers], table: PairedTable
) -> list[BaselineComparison]:
    """For each record its agreement with, and its speed-up over, its own baseline."""
    keys = [identify_setting(record, "optimization", "engine") for record in records]
    newest = _newest_baselines(records, keys)
    return [
        _compare(records, answers, table, position, newest.get(key))
        for position, key in enumerate(keys)
    ]


def identify_setting(record: Record, *without: str) -> str:
    """What two runs must have in common to differ in nothing but these keys."""
    config = {k: v for k, v in record.config.items() if k not in (*NOT_MEASURED, *without)}
    digests = record.run.get("digests")
    if isinstance(digests, Mapping):
        following = {_FOLLOWING.get(key) for key in without}
        digests = {name: digest for name, digest in digests.items() if name not in following}
    facts = [config, identify_machine(record), record.run.get("versions"), digests]
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
    """Sort key: the time, then the folder's name."""
    return str(record.run.get("started_at") or ""), record.folder.name


def _newest_baselines(records: Sequence[Record], keys: Sequence[str]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for position in sorted(range(len(records)), key=lambda i: started(records[i])):
        if _is_baseline(records[position]):
            newest[keys[position]] = position
    return newest


def _is_baseline(record: Record) -> bool:
    is_plain = record.summary.get("optimization") == BASELINE
    return record.status == COMPLETED and is_plain and _engine_of(record) == PLAIN_ENGINE


def _engine_of(record: Record) -> Any:
    return _engine_in(record.config)


def _engine_in(config: Mapping[str, Any]) -> Any:
    engine = config.get("engine", PLAIN_ENGINE)
    return engine.get("name") if isinstance(engine, Mapping) else engine


def _compare(
    records: Sequence[Record],
    answers: Sequence[Answers],
    table: PairedTable,
    position: int,
    baseline: int | None,
) -> BaselineComparison:
    if records[position].status != COMPLETED:
        return NO_BASELINE
    if baseline is None:
        return replace(NO_BASELINE, paired=_find_without_record(records[position], table))
    return BaselineComparison(
        baseline=baseline,
        agreement=share_of_equal(
            *comparable(
                (records[position], answers[position]), (records[baseline], answers[baseline])
            )
        ),
        separate=_divide(
            records[baseline].summary.get("latency_s"), records[position].summary.get("latency_s")
        ),
        paired=table.find(records[baseline].fingerprint, records[position].fingerprint),
    )


def _find_without_record(record: Record, table: PairedTable) -> PairedTimes | None:
    """The paired comparison with a baseline that left no record of its own."""
    wanted = _rest_of(record.config)
    partners = table.list_partners(record.fingerprint)
    return next((one for config, one in partners if _is_plain(config, wanted)), None)


def _is_plain(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    stack = config.get("optimization")
    is_baseline = isinstance(stack, Mapping) and list(stack) == [BASELINE]
    return is_baseline and _engine_in(config) == PLAIN_ENGINE and _rest_of(config) == wanted


def _rest_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a point and its baseline have in common."""
    without = (*NOT_MEASURED, "optimization", "engine")
    return {key: value for key, value in config.items() if key not in without}


def comparable(
    mine: tuple[Record, Answers], other: tuple[Record, Answers]
) -> tuple[Answers, Answers]:
    """The answers of two runs, without the prompts where the engines differ.

    An engine that does not render prompts itself records the question only.
    """
    if _engine_of(mine[0]) == _engine_of(other[0]):
        return mine[1], other[1]
    bare = [{(sample, ""): text for (sample, _), text in one[1].items()} for one in (mine, other)]
    return bare[0], bare[1]


def share_of_equal(mine: Answers, other: Answers) -> float | None:
    """The share of equal answers, where both runs answered the same samples."""
    if not mine or mine.keys() != other.keys():
        return None
    return sum(answer == other[sample] for sample, answer in mine.items()) / len(mine)


def _divide(numerator: Any, denominator: Any) -> float | None:
    return numerator / denominator if numerator and denominator else None
