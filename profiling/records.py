"""Records of points and of comparisons: their formats, how they are written and read back."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from profiling import metrics
from profiling.files import (
    LARGEST_SETTINGS,
    LARGEST_TABLE,
    UnfitFile,
    describe,
    open_file,
    parse_json,
    read_bytes,
    read_text,
    sync,
)
from profiling.metrics import (
    AT_READING as AT_READING,
)
from profiling.metrics import (
    FLAG_COLUMNS,
    SUMMARY_COLUMNS,
    TEXT_COLUMNS,
)

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1
COMPLETED, FAILED, UNSUPPORTED, OUT_OF_MEMORY = STATUSES = (
    "completed",
    "failed",
    "unsupported",
    "out_of_memory",
)
MEASURED, ESTIMATED, DERIVED, UNAVAILABLE = ("measured", "estimated", "derived", "unavailable")
KEPT_STATUSES = (COMPLETED, UNSUPPORTED, OUT_OF_MEMORY)
# The folder of a results folder that holds the comparisons, and the file that makes one complete.
COMPARISONS = "comparisons"
COMPARISON_FILE = "comparison.json"

ANSWER_FIELDS = (
    "id",
    "prompt",
    "references",
    "answer",
    "wer",
    "num_question_tokens",
    "num_prompt_tokens",
    "num_visual_tokens",
    "num_new_tokens",
    "image_width",
    "image_height",
    "num_pictures",
    "num_frames",
    "asked_picture",
    "reference_nll",
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number with its status and its source: a row of readings.csv.

    A row with a repeat or a batch is raw. A row with neither is an aggregate and fills the summary
    column of its metric's name.
    """

    phase: str
    metric: str
    value: float | None
    unit: str
    status: str
    source: str
    repeat: int | None = None
    batch: int | None = None

    @property
    def is_aggregate(self) -> bool:
        return self.repeat is None and self.batch is None


READING_FIELDS = tuple(field.name for field in fields(Reading))


# Columns that pandas would read as numbers where every cell looks like one.
_TEXT_FIELDS = ("phase", "metric", "unit", "status", "source")


def reading(
    metric: str,
    *,
    value: float,
    status: str,
    source: str,
    phase: str | None = None,
    repeat: int | None = None,
    batch: int | None = None,
) -> Reading:
    """A number of a declared metric, with the metric's unit and phase.

    `phase` is for raw rows only: the repeats of the latency stand in one metric for all phases.
    """
    declared = _find_with_rows(metric)
    if phase is not None and repeat is None and batch is None:
        raise ValueError(f"{metric}: an aggregate is of the declared phase, {declared.phase}")
    return Reading(
        phase=phase or declared.phase,
        metric=metric,
        value=value,
        unit=declared.unit,
        status=status,
        source=source,
        repeat=repeat,
        batch=batch,
    )


def unavailable(metric: str, reason: str) -> Reading:
    """A declared metric without a value, and the reason."""
    declared = _find_with_rows(metric)
    return Reading(
        phase=declared.phase,
        metric=metric,
        value=None,
        unit=declared.unit,
        status=UNAVAILABLE,
        source=reason,
    )


def _find_with_rows(metric: str) -> metrics.Metric:
    declared = metrics.find(metric)
    if not declared.has_rows:
        raise ValueError(f"{metric} is a column of the summary alone, and never a reading")
    return declared


def summarize(readings: Iterable[Reading]) -> dict[str, float | str | None]:
    """The summary columns that readings fill, and the columns for the sources of some of them."""
    summary: dict[str, float | str | None] = {}
    for row in readings:
        if not row.is_aggregate:
            continue
        summary[row.metric] = row.value
        column = metrics.SOURCE_COLUMNS.get(row.metric)
        if column is not None:
            summary[column] = None if row.value is None else row.source
    return summary


# Writing


def write_record(
    folder: Path,
    *,
    run: Mapping[str, Any],
    readings: Sequence[Reading],
    answers: Sequence[Mapping[str, Any]],
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a record that is either complete or absent: run.json is written last.

    `files` are further files of the record, by name.
    """
    if folder.exists():
        # First of all: after a kill in the middle, the rest must not be read as the old record.
        (folder / "run.json").unlink(missing_ok=True)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    with _durable(folder / "readings.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(READING_FIELDS)
        for reading in readings:
            writer.writerow([_cell(getattr(reading, name)) for name in READING_FIELDS])
    with _durable(folder / "answers.jsonl") as stream:
        for answer in answers:
            stream.write(json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n")
    for name, content in (files or {}).items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    write_json(folder / "run.json", {"schema_version": SCHEMA_VERSION, **run})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that holds all of its content or is not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with _durable(partial) as stream:
        stream.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(partial, path)
    sync(path.parent)


def write_comparison(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the file that makes a comparison complete, last of all in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / COMPARISON_FILE, {"schema_version": SCHEMA_VERSION, **content})


class _durable:
    """A text file that is flushed to the disk before it is closed."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> Any:
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()


def _cell(value: object) -> str:
    if value is None:
        return ""
    # The csv module does not quote a lone carriage return, and reads it as the end of a row.
    return repr(value) if isinstance(value, float) else str(value).replace("\r", " ")


def folder_for(results_dir: Path, fingerprint: str, *, resume: bool) -> Path:
    """The folder of a point's next record: its own, or with `resume=False` one with a number."""
    folder = results_dir / fingerprint
    if resume or not is_finished(folder):
        return folder
    number = 2
    while is_finished(results_dir / f"{fingerprint}-{number}"):
        number += 1
    return results_dir / f"{fingerprint}-{number}"


def is_finished(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def finished_status(folder: Path) -> str | None:
    """The status of a finished record; None where there is none that can be read."""
    if not is_finished(folder):
        return None
    try:
        return read_record(folder).status
    except BrokenRecord:
        return None


# Reading back


class BrokenRecord(ValueError):
    """A record that cannot be read; the message is one line with the file and the error."""


@dataclass(frozen=True)
class Record:
    """The record of one run."""

    folder: Path
    run: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.run["status"])

    @property
    def fingerprint(self) -> str:
        return str(self.run["fingerprint"])

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.run["config"])

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.run["summary"])

    @cached_property
    def readings(self) -> pandas.DataFrame:
        import pandas

        path = self.folder / "readings.csv"
        try:
            content = io.BytesIO(read_bytes(path, at_most=LARGEST_TABLE))
            return pandas.read_csv(content, dtype=dict.fromkeys(_TEXT_FIELDS, str))
        except (OSError, ValueError) as error:
            raise BrokenRecord(f"{path}: cannot be read: {error}") from None

    @cached_property
    def answers(self) -> list[dict[str, Any]]:
        return list(_read_answers(self.folder / "answers.jsonl"))


@dataclass(frozen=True)
class Collection:
    """The records of a folder, and a line for each that could not be read."""

    records: list[Record]
    problems: list[str]


def read(results_dir: Path | str) -> Collection:
    """Read all records of a results folder; broken ones become `problems`."""
    records, problems = [], []
    for folder in _record_folders(Path(results_dir)):
        try:
            records.append(read_record(folder))
        except BrokenRecord as problem:
            problems.append(str(problem))
    return Collection(records, problems)


def load(results_dir: Path | str) -> pandas.DataFrame:
    """One tidy row per run, with the summary columns; a broken record gives a warning.

    `docs/columns.md` explains every column. The columns that compare a run with its baseline, such
    as `speedup`, are filled by `profiling.report.to_frame` only.
    """
    found = read(results_dir)
    for problem in found.problems:
        warnings.warn(f"not read: {problem}", stacklevel=2)
    return tabulate(
        [
            record.run["summary"] | {"fingerprint": record.fingerprint, "status": record.status}
            for record in found.records
        ]
    )


def tabulate(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Rows as a table of the summary columns, each with the kind that its metric declares.

    The kind does not depend on the cells, so that a column without any value can be used in
    arithmetic.
    """
    import pandas

    columns = {name: [row.get(name) for row in rows] for name in SUMMARY_COLUMNS}
    return pandas.DataFrame(
        {name: pandas.Series(cells, dtype=_kind(name, cells)) for name, cells in columns.items()}
    )


# Up to this, a float holds every whole number exactly.
_EXACT = 2**53


def _kind(column: str, cells: Sequence[Any]) -> str:
    if column in TEXT_COLUMNS:
        return "str"
    if column in FLAG_COLUMNS:
        return "boolean"
    whole = bool(cells) and all(isinstance(cell, int) and abs(cell) < _EXACT for cell in cells)
    return "int64" if whole else "float64"


def _record_folders(results_dir: Path) -> list[Path]:
    if not results_dir.is_dir():
        return []
    with os.scandir(results_dir) as entries:
        found = [
            entry.path for entry in entries if _may_be_record(entry.name) and _is_folder(entry)
        ]
    return [Path(path) for path in sorted(found)]


def _may_be_record(name: str) -> bool:
    return name[0] != "." and name != COMPARISONS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def read_record(folder: Path) -> Record:
    """Read one record; raises `BrokenRecord` where it is incomplete or invalid."""
    path = folder / "run.json"
    run = read_json(path, missing=f"{folder}: no run.json: the run was interrupted")
    _check_run(path, run)
    if run["status"] == COMPLETED:
        _check_readings(folder / "readings.csv")
        _check_answers(folder / "answers.jsonl")
    return Record(folder, run)


def read_json(path: Path, *, missing: str) -> Any:
    """The content of a file; raises `BrokenRecord`, with `missing` where there is no file."""
    try:
        text = read_text(path, at_most=LARGEST_SETTINGS)
    except FileNotFoundError:
        raise BrokenRecord(missing) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenRecord(f"{path}: cannot be read: {describe(error)}") from None
    try:
        return parse_json(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise BrokenRecord(f"{path}: not valid JSON: {error}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


_SHAPE = {"fingerprint": str, "status": str, "config": dict, "machine": dict, "summary": dict}


def _check_run(path: Path, run: Any) -> None:
    _check_shape(path, run, _SHAPE)
    if run["status"] not in STATUSES:
        raise BrokenRecord(f"{path}: status {run['status']!r} is none of {', '.join(STATUSES)}")
    _check_address(path, "fingerprint", run["fingerprint"])
    for name, value in run["summary"].items():
        if not suits(name, value):
            raise BrokenRecord(f"{path}: summary.{name} is not what it should be")


def _check_shape(path: Path, content: Any, shape: Mapping[str, type]) -> None:
    if not isinstance(content, dict):
        raise BrokenRecord(f"{path}: not an object")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BrokenRecord(f"{path}: schema_version {version}, this code reads {SCHEMA_VERSION}")
    for name, kind in shape.items():
        if not isinstance(content.get(name), kind):
            raise BrokenRecord(f"{path}: {name} is missing or not a {kind.__name__}")


def _check_address(path: Path, name: str, address: str) -> None:
    if not re.fullmatch(r"[0-9A-Za-z_.-]+", address):
        raise BrokenRecord(f"{path}: {name} {address!r} is not one")


# No quantity of a run is larger, and floats beyond it overflow in arithmetic.
_LARGEST = 1e100
_SURROGATE = re.compile("[\ud800-\udfff]")


def suits(column: str, value: object) -> bool:
    """Whether a column may hold a value; a column of another version, any number or text."""
    if value is None:
        return True
    if column in TEXT_COLUMNS:
        return is_text(value)
    if isinstance(value, bool):
        return column in FLAG_COLUMNS
    if isinstance(value, int | float):
        return abs(value) < _LARGEST
    return column not in SUMMARY_COLUMNS and is_text(value)


def is_text(value: object) -> bool:
    """Whether a text can be written to a file; one with lone surrogates cannot."""
    return isinstance(value, str) and (value.isascii() or _SURROGATE.search(value) is None)


def _check_readings(path: Path) -> None:
    head, tail = _ends(path)
    header = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if header.split(",") != list(READING_FIELDS):
        raise BrokenRecord(f"{path}: the header is not {','.join(READING_FIELDS)}")
    last = tail.rsplit(b"\n", 2)[-2:]
    if last[-1] != b"":
        raise BrokenRecord(f"{path}: ends in the middle of a line")


def _check_answers(path: Path) -> None:
    head, tail = _ends(path)
    if head and not tail.endswith(b"\n"):
        raise BrokenRecord(f"{path}: ends in the middle of a line")


def _ends(path: Path, *, size: int = 4096) -> tuple[bytes, bytes]:
    try:
        with open_file(path, at_most=LARGEST_TABLE) as stream:
            head = stream.read(size)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
            return head, stream.read(size)
    except OSError as error:
        raise BrokenRecord(f"{path}: cannot be read: {error.strerror}") from None


def _read_answers(path: Path) -> Iterator[dict[str, Any]]:
    with _open_answers(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                answer = parse_json(line, parse_constant=_refuse_constant)
            except ValueError as error:
                raise BrokenRecord(f"{path}: line {number}: not valid JSON: {error}") from None
            if not isinstance(answer, dict):
                raise BrokenRecord(f"{path}: line {number}: not an object")
            yield answer


def _open_answers(path: Path) -> BinaryIO:
    try:
        return open_file(path, at_most=LARGEST_TABLE)
    except UnfitFile as error:
        raise BrokenRecord(f"{path}: cannot be read: {describe(error)}") from None


# Comparisons


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Time of one side over that of the other, of the whole pass or of one phase.

    Without an interval where there are fewer than three launches, or all gave the same ratio.
    `a_median_s` and `b_median_s` are the medians over launches of each side's median.
    """

    ratio: float
    ci_low: float | None = None
    ci_high: float | None = None
    launches: int | None = None
    pairs: int | None = None
    between_launch_sd: float | None = None
    within_launch_sd: float | None = None
    a_median_s: float | None = None
    b_median_s: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two points measured in turn: `whole.ratio` is the time of `a` over the time of `b`."""

    folder: Path
    content: dict[str, Any]

    @property
    def address(self) -> str:
        """Equal for comparisons of the same points; a second one is in a folder with a number."""
        return str(self.content["address"])

    @property
    def a(self) -> str:
        """The fingerprint of one side; in a sweep with `paired=true` that of the baseline."""
        return str(self.content["a"])

    @property
    def b(self) -> str:
        return str(self.content["b"])

    @property
    def whole(self) -> Compared:
        return _read_compared(self.content)

    @property
    def phases(self) -> dict[str, Compared]:
        """The phases that both sides mark."""
        return {name: _read_compared(found) for name, found in self.content["phases"].items()}

    @property
    def noisy(self) -> bool:
        return bool(self.content["noisy"])

    @property
    def noise_reason(self) -> str | None:
        return self.content.get("noise_reason")


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of a results folder, and a line for each that could not be read."""

    comparisons: list[Comparison]
    problems: list[str]


def read_comparisons(results_dir: Path | str) -> Comparisons:
    """Read all comparisons of a results folder; interrupted and broken ones become `problems`."""
    found, problems = [], []
    for folder in _record_folders(Path(results_dir) / COMPARISONS):
        try:
            found.append(read_comparison(folder))
        except BrokenRecord as problem:
            problems.append(str(problem))
    return Comparisons(found, problems)


_COMPARISON_SHAPE = {"a": str, "b": str, "phases": dict, "noisy": bool}
_COUNTS = ("launches", "pairs")
_NEEDED = ("ratio", *_COUNTS)


def read_comparison(folder: Path) -> Comparison:
    """Read one comparison; raises `BrokenRecord` where it is incomplete or invalid."""
    path = folder / COMPARISON_FILE
    missing = f"{folder}: no {COMPARISON_FILE}: the comparison was interrupted"
    content = read_json(path, missing=missing)
    if isinstance(content, dict):
        # The format has had one version so far, and other programs may leave it out.
        content.setdefault("schema_version", SCHEMA_VERSION)
    _check_shape(path, content, _COMPARISON_SHAPE)
    content.setdefault("address", folder.name)
    for name in ("address", "a", "b"):
        _check_address(path, name, str(content[name]))
    _check_compared(path, "", content, needed=_NEEDED)
    for phase, found in content["phases"].items():
        if not isinstance(found, dict):
            raise BrokenRecord(f"{path}: phases.{phase} is not an object")
        _check_compared(path, f"phases.{phase}.", found, needed=("ratio",))
    return Comparison(folder, content)


def _check_compared(
    path: Path, place: str, found: Mapping[str, Any], *, needed: Sequence[str]
) -> None:
    for field in fields(Compared):
        value = found.get(field.name)
        if value is None and field.name not in needed:
            continue
        kind = int if field.name in _COUNTS else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < _LARGEST:
            raise BrokenRecord(f"{path}: {place}{field.name} is not what it should be")
    if not found["ratio"] > 0:
        raise BrokenRecord(f"{path}: {place}ratio is not above 0")


def _read_compared(found: Mapping[str, Any]) -> Compared:
    return Compared(**{f.name: found[f.name] for f in fields(Compared) if f.name in found})
