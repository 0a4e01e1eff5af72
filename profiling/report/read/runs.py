"""Read a results folder into runs: the summary of each record, and what only reading can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiling.records import (
    COMPLETED,
    ESTIMATED,
    SUMMARY_COLUMNS,
    UNAVAILABLE,
    BrokenRecord,
    Record,
    read,
)
from profiling.report.read.checks import check_record
from profiling.report.read.plain_runs import Answers, hold_against_baselines
from profiling.report.read.readings import Worth, read_worths


class ReportError(ValueError):
    """Something that the person who asked has to change; one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One record and the columns of its row."""

    record: Record
    columns: Mapping[str, Any]
    worths: Mapping[str, Worth]
    baseline: str | None

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]

    @property
    def completed(self) -> bool:
        return self.record.status == COMPLETED

    @property
    def name(self) -> str:
        """The folder's name, which tells repetitions of one point apart."""
        return self.record.folder.name

    @property
    def short(self) -> str:
        """Enough of the name to point at the run, and the number of its repetition."""
        fingerprint = self.record.fingerprint
        return fingerprint[:8] + self.name.removeprefix(fingerprint)

    def number(self, column: str) -> float | None:
        """The column's value where it is a number."""
        value = self.columns[column] if column in self.columns else self._extras.get(column)
        return None if value is None or isinstance(value, str) else float(value)

    @property
    def _extras(self) -> Mapping[str, Any]:
        """What the summary holds beyond the columns that every run has."""
        summary: Mapping[str, Any] = self.record.run["summary"]
        return summary

    def is_estimated(self, column: str) -> bool:
        return self.worths.get(column, ("", ""))[0] == ESTIMATED

    def reason(self, column: str) -> str | None:
        """Why a column has no value, where the run says so."""
        status, source = self.worths.get(column, ("", ""))
        return source if status == UNAVAILABLE else None


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Every readable run of a folder, and a line for each that had to be left out."""

    runs: list[Run]
    problems: list[str]


def read_runs(results_dir: Path) -> Runs:
    """Read the runs below a folder; a broken one is named and left out."""
    collection = read(results_dir)
    records: list[Record] = []
    answers: list[Answers] = []
    worths: list[dict[str, Worth]] = []
    problems = list(collection.problems)
    for record in collection.records:
        try:
            check_record(record)
            worth, answered = read_worths(record), read_answers(record)
        except BrokenRecord as problem:
            problems.append(str(problem))
        else:
            records.append(record)
            worths.append(worth)
            answers.append(answered)
    against = hold_against_baselines(records, answers)
    runs = [
        Run(
            record=record,
            columns=_row(record, agreement=held.agreement, speedup=held.speedup),
            worths=worth,
            baseline=None if held.baseline is None else records[held.baseline].folder.name,
        )
        for record, worth, held in zip(records, worths, against, strict=True)
    ]
    return Runs(runs=runs, problems=problems)


def single_run(record: Record) -> Run:
    """A record by itself, held against no other."""
    row = _row(record, agreement=None, speedup=None)
    return Run(record=record, columns=row, worths=read_worths(record), baseline=None)


def _row(record: Record, **at_reading: float | None) -> dict[str, Any]:
    facts = {"fingerprint": record.fingerprint, "status": record.status, **at_reading}
    known = record.summary | facts
    return {column: known.get(column) for column in SUMMARY_COLUMNS}


def read_answers(record: Record) -> Answers:
    """What a run answered to each sample; a repeated sample keeps its last answer."""
    if not (record.folder / "answers.jsonl").is_file():
        return {}
    answers = {}
    for line in forget(record).answers:
        parts = [line.get(name) for name in ("id", "prompt", "answer")]
        if not all(isinstance(part, str) for part in parts):
            path = record.folder / "answers.jsonl"
            raise BrokenRecord(f"{path}: a line lacks a text for id, prompt or answer")
        sample, prompt, answer = parts
        answers[str(sample), str(prompt)] = str(answer)
    return answers


def forget(record: Record) -> Record:
    """The same record with nothing read yet, so that what is read can be let go again."""
    return replace(record)


def values_of(runs: Iterable[Run], column: str) -> list[Any]:
    """The distinct values of a column: numbers by size, the rest by name, nothing last."""
    distinct = {run[column] for run in runs}
    return sorted(distinct, key=order_of)


def order_of(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (2, 0.0, "")
    if isinstance(value, str):
        return (1, 0.0, value)
    return (0, float(value), "")
