"""Read a results folder into runs: records, and what only a comparison of records can tell."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from profiling import metrics
from profiling.metrics import AT_READING, COUNT, NUMBER, SETTING_COLUMNS, SUMMARY_COLUMNS
from profiling.records import (
    COMPLETED,
    ESTIMATED,
    UNAVAILABLE,
    BrokenRecord,
    Comparison,
    Record,
    read,
    read_comparisons,
    suits,
)
from profiling.report.read.checks import check_record
from profiling.report.read.keys import ROUND, Settings, list_differing, read_settings
from profiling.report.read.paired import (
    NO_PAIRS,
    PairedTable,
    PairedTimes,
)
from profiling.report.read.plain_runs import (
    NO_BASELINE,
    Answers,
    compare_with_baselines,
    identify_machine,
    identify_setting,
)
from profiling.report.read.readings import (
    Provenance,
    find_confidence,
    is_number,
    read_provenance,
)
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.rounds import bound_rounds
from profiling.statistics.summaries import LEAST_REPEATS

LONGEST_REST = 24
# The name of a folder may hold anything.
_UNSAFE = re.compile(r"[^0-9A-Za-z_.-]")


def _name_of(record: Record) -> str:
    """The folder's name as text; what is no UTF-8 in it is replaced."""
    return os.fsencode(record.folder.name).decode("utf-8", "replace")


class ReportError(ValueError):
    """A mistake in what was asked for; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One record, the columns of its row and its configuration keys.

    `distinct` are the keys in which the runs that were read together differ, and `is_elsewhere`
    says whether some were made on another kind of machine than others. `rounds` are the runs of the
    point whose medians the columns hold; a run by itself has none.
    """

    record: Record
    columns: Mapping[str, Any]
    settings: Settings
    distinct: tuple[str, ...]
    is_elsewhere: bool
    provenance: Mapping[str, Provenance]
    baseline: str | None
    paired: PairedTable
    speedup_is_noisy: bool
    # Whether pages may show pictures of the folder that the record names.
    follows_folder: bool
    rounds: tuple[Run, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The value of a column or of a configuration key, which not every run has."""
        return self.columns[name] if name in self.columns else self.settings.get(name)

    def setting(self, key: str) -> Any:
        """The value of a configuration key, whatever metric is called like it."""
        return self.settings[key] if key in self.settings else self[key]

    @property
    def completed(self) -> bool:
        return self.record.status == COMPLETED

    @property
    def name(self) -> str:
        """The folder's name, which tells repetitions of one point apart."""
        return _name_of(self.record)

    @property
    def short(self) -> str:
        """The beginning of the name, and the number of the repetition, without any markup."""
        fingerprint = self.record.fingerprint
        rest = self.name.removeprefix(fingerprint)[:LONGEST_REST]
        return fingerprint[:8] + _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", rest)

    def number(self, name: str) -> float | None:
        """The value of a metric or of a configuration key, where it is a number."""
        value = self[name]
        if value is None and name not in self.columns:
            value = self.others.get(name)
        return None if value is None or isinstance(value, str) else float(value)

    def interval(self, metric: str) -> Interval | None:
        """A metric's interval with the confidence that it reaches; None where it has none.

        Of rounds it is that of their spread, whatever the intervals within them.
        """
        if self.rounds and varies_by_round(metric) and metric not in AT_READING:
            values = [run.number(metric) for run in self.rounds]
            known = [value for value in values if value is not None]
            return bound_rounds(known) if len(known) == len(values) else None
        ends = metrics.find(metric).bounds
        if ends is None or (_is_of_repeats(metric) and self._has_few_repeats):
            return None
        low, high = (self.number(end) for end in ends)
        if low is None or high is None:
            return None
        return Interval(low=low, high=high, confidence=self._confidence(ends[0]))

    @property
    def _has_few_repeats(self) -> bool:
        repeats = self.number("num_repeats")
        return repeats is not None and repeats < LEAST_REPEATS

    def _confidence(self, end: str) -> float:
        _, source = self.provenance.get(end, ("", ""))
        return find_confidence(source) or CONFIDENCE

    @property
    def others(self) -> Mapping[str, Any]:
        """The aggregates of the record, also those that are no column of every run."""
        summary: Mapping[str, Any] = self.record.run["summary"]
        return summary

    @cached_property
    def _scores(self) -> dict[str, dict[str, float]]:
        return {}

    def scores(self, field: str) -> Mapping[str, float]:
        """A number that each answer has on its own, by sample; read once."""
        if field not in self._scores:
            lines = without_cache(self.record).answers
            self._scores[field] = {
                str(line["id"]): float(line[field]) for line in lines if is_number(line.get(field))
            }
        return self._scores[field]

    @cached_property
    def references(self) -> Mapping[str, str]:
        """What answers to each sample are judged against, as a digest; read once."""
        return {
            str(line["id"]): _digest(json.dumps(line.get("references")))
            for line in without_cache(self.record).answers
        }

    @cached_property
    def answered(self) -> Answers:
        """The answer to each sample as a digest, which is enough to tell equal texts; read once."""
        return {
            (sample, _digest(prompt)): _digest(answer)
            for (sample, prompt), answer in read_answers(self.record).items()
        }

    def is_estimated(self, metric: str) -> bool:
        return self.provenance.get(metric, ("", ""))[0] == ESTIMATED

    def reason(self, metric: str) -> str | None:
        """Why a metric has no value, where the run says so."""
        status, source = self.provenance.get(metric, ("", ""))
        return source if status == UNAVAILABLE else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def varies_by_round(metric: str) -> bool:
    """Whether a number is measured anew in each round: times, joules and bytes are; scores not."""
    declared = metrics.find(metric)
    is_cost = declared.from_times or declared.unit != COUNT
    return declared.kind == NUMBER and is_cost and not declared.is_setting


def _is_of_repeats(metric: str) -> bool:
    """Whether a metric is a median over repeats, whose interval needs enough of them."""
    return "latency" in metrics.find(metric).given_by


def find_paired(over: Run, under: Run) -> PairedTimes | None:
    """The time of one run over that of another, where their points were measured in pairs."""
    ends = (over.record.fingerprint, under.record.fingerprint)
    return over.paired.find(*ends) or under.paired.find(*ends)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of a folder, and a line for each record that cannot be read."""

    runs: list[Run]
    problems: list[str]


@dataclass(frozen=True, kw_only=True)
class _Readable:
    """A record whose files can all be read."""

    record: Record
    provenance: Mapping[str, Provenance]
    answers: Answers


def read_runs(results_dir: Path, *, pictures: bool = True) -> Runs:
    """Read the runs of a folder; broken records become problems.

    Without `pictures` pages show none of a sample folder that a record names outside the project.
    """
    collection = read(results_dir)
    problems = list(collection.problems)
    found: list[_Readable] = []
    for record in collection.records:
        try:
            found.append(_read_record(record))
        except BrokenRecord as problem:
            problems.append(str(problem))
    paired = read_comparisons(results_dir)
    problems += paired.problems
    return Runs(runs=_compare(found, paired.comparisons, pictures), problems=problems)


def _read_record(record: Record) -> _Readable:
    check_record(record)
    return _Readable(
        record=record, provenance=read_provenance(record), answers=read_answers(record)
    )


def _compare(
    found: Sequence[_Readable], comparisons: Sequence[Comparison], pictures: bool
) -> list[Run]:
    """The runs of records, each compared with its baseline and with all others."""
    records = [one.record for one in found]
    table = _tabulate(records, comparisons)
    compared = compare_with_baselines(records, [one.answers for one in found], table)
    rows = [
        _row(one.record, {**_reach(one.provenance), **pair.columns()})
        for one, pair in zip(found, compared, strict=True)
    ]
    settings = [read_settings(one.config, row) for one, row in zip(records, rows, strict=True)]
    distinct = tuple(list_differing(settings))
    machines = [identify_machine(record) for record in records]
    return [
        Run(
            record=one.record,
            columns=_with_settings(row, own),
            settings=own,
            distinct=distinct,
            is_elsewhere=any(one != machines[0] for one in machines),
            provenance=one.provenance,
            baseline=None if pair.baseline is None else _name_of(records[pair.baseline]),
            follows_folder=pictures,
            paired=table,
            speedup_is_noisy=pair.paired is not None and pair.paired.noisy,
        )
        for one, row, own, pair in zip(found, rows, settings, compared, strict=True)
    ]


def _tabulate(records: Sequence[Record], comparisons: Sequence[Comparison]) -> PairedTable:
    if not comparisons:
        return NO_PAIRS
    points = {one.fingerprint: identify_setting(one, ROUND) for one in records}
    return PairedTable(comparisons, points)


def _reach(provenance: Mapping[str, Provenance]) -> dict[str, float | None]:
    """The confidence that the interval of the latency reaches."""
    _, source = provenance.get("latency_ci_low_s", ("", ""))
    return {"latency_ci_confidence": find_confidence(source)}


def single_run(record: Record) -> Run:
    """A record by itself, compared with no other."""
    provenance = read_provenance(record)
    row = _row(record, {**_reach(provenance), **NO_BASELINE.columns()})
    settings = read_settings(record.config, row)
    return Run(
        record=record,
        columns=_with_settings(row, settings),
        settings=settings,
        distinct=(),
        is_elsewhere=False,
        provenance=provenance,
        baseline=None,
        paired=NO_PAIRS,
        speedup_is_noisy=False,
        follows_folder=False,
    )


def _row(record: Record, at_reading: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        **record.summary,
        "fingerprint": record.fingerprint,
        "status": record.status,
        **at_reading,
    }
    return {column: known.get(column) for column in SUMMARY_COLUMNS}


def _with_settings(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A setting that the summary lacks is in the configuration."""
    own = {name: settings.get(name) for name in SETTING_COLUMNS if row[name] is None}
    return row | {name: value for name, value in own.items() if suits(name, value)}


def read_answers(record: Record) -> Answers:
    """The answer of a run to each sample; for a sample that was repeated, the last one."""
    if not (record.folder / "answers.jsonl").is_file():
        return {}
    answers = {}
    for line in without_cache(record).answers:
        if "answer" in line and line["answer"] is None:
            # Random values answer nothing.
            continue
        parts = [line.get(name) for name in ("id", "prompt", "answer")]
        if not all(isinstance(part, str) for part in parts):
            path = record.folder / "answers.jsonl"
            raise BrokenRecord(f"{path}: a line lacks a text for id, prompt or answer")
        sample, prompt, answer = parts
        answers[str(sample), str(prompt)] = str(answer)
    return answers


def without_cache(record: Record) -> Record:
    """A copy of the record, so that what is read through it is freed with it."""
    return replace(record)


def values_of(runs: Iterable[Run], name: str) -> list[Any]:
    """The distinct values of a column or key: numbers by size, then texts by name, None last."""
    distinct = {run[name] for run in runs}
    return sorted(distinct, key=order_of)


def order_of(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (2, 0.0, "")
    if isinstance(value, str):
        return (1, 0.0, value)
    return (0, float(value), "")
