"""What a point leaves behind: how it is written without tearing and how it is read back."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

SUMMARY_COLUMNS = (
    "fingerprint",
    "status",
    "model",
    "weights",
    "dataset",
    "optimization",
    "img_size",
    "prompt_len",
    "batch_size",
    "max_new_tokens",
    "device",
    "dtype",
    "num_samples",
    "num_repeats",
    "latency_s",
    "latency_mean_s",
    "latency_std_s",
    "latency_min_s",
    "latency_max_s",
    "latency_p95_s",
    "latency_ci_low_s",
    "latency_ci_high_s",
    "preprocess_s",
    "transfer_s",
    "vision_s",
    "projector_s",
    "prefill_s",
    "decode_s",
    "other_s",
    "ttft_s",
    "tpot_s",
    "samples_per_s",
    "tokens_per_s",
    "energy_j",
    "energy_source",
    "energy_ci_low_j",
    "energy_ci_high_j",
    "energy_estimate_j",
    "energy_estimate_source",
    "flops",
    "flops_vision",
    "flops_projector",
    "flops_prefill",
    "flops_decode",
    "mfu_prefill",
    "mbu_decode",
    "peak_memory_bytes",
    "peak_memory_source",
    "cpu_memory_delta_bytes",
    "cpu_memory_peak_bytes",
    "gpu_memory_delta_bytes",
    "gpu_memory_peak_bytes",
    "model_bytes",
    "load_s",
    "wer",
    "cer",
    "accuracy",
    "accuracy_name",
    "agreement",
    "speedup",
    "num_question_tokens",
    "num_prompt_tokens",
    "num_visual_tokens",
    "num_new_tokens",
    "noisy",
    "noise_reason",
    "engine",
)
TEXT_COLUMNS = frozenset(
    {
        *("fingerprint", "status", "model", "weights", "dataset", "optimization", "engine"),
        *("device", "dtype", "accuracy_name", "noise_reason"),
        *(column for column in SUMMARY_COLUMNS if column.endswith("_source")),
    }
)
FLAG_COLUMNS = frozenset({"noisy"})
AT_READING = ("agreement", "speedup")
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
    "reference_nll",
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number, with what it is worth.

    A row with a repeat or a batch is raw. A row with neither is an aggregate, and its metric is
    the name of the summary column that it fills.
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


# Columns that would be read as numbers where all that stands in them looks like one.
_TEXT_FIELDS = ("phase", "metric", "unit", "status", "source")


def unavailable(phase: str, metric: str, unit: str, reason: str) -> Reading:
    """A number that could not be had, and why."""
    return Reading(
        phase=phase, metric=metric, value=None, unit=unit, status=UNAVAILABLE, source=reason
    )


def summarize(readings: Iterable[Reading]) -> dict[str, float | str | None]:
    """The summary columns that readings fill; where a value has a column for its source, that."""
    summary: dict[str, float | str | None] = {}
    for reading in readings:
        if not reading.is_aggregate:
            continue
        summary[reading.metric] = reading.value
        column = _source_column(reading.metric)
        if column is not None:
            summary[column] = None if reading.value is None else reading.source
    return summary


def _source_column(metric: str) -> str | None:
    if metric == "accuracy":
        return "accuracy_name"
    stem, _, _ = metric.rpartition("_")
    column = f"{stem}_source"
    return column if column in SUMMARY_COLUMNS else None


# Writing


def write_record(
    folder: Path,
    *,
    run: Mapping[str, Any],
    readings: Sequence[Reading],
    answers: Sequence[Mapping[str, Any]],
) -> None:
    """Write a record so that it is either there whole or not there: run.json comes last."""
    if folder.exists():
        # First, so that what is left of it after a kill is not taken for the old record.
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
    complete = {"schema_version": SCHEMA_VERSION, **run}
    partial = folder / f".run.json.{os.getpid()}"
    with _durable(partial) as stream:
        stream.write(json.dumps(complete, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(partial, folder / "run.json")
    _sync_folder(folder)


class _durable:
    """A text file whose content is on the disk before its name can be relied on."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> Any:
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cell(value: object) -> str:
    if value is None:
        return ""
    # A lone carriage return would not be quoted, and read back as the end of a row.
    return repr(value) if isinstance(value, float) else str(value).replace("\r", " ")


def folder_for(results_dir: Path, fingerprint: str, *, resume: bool) -> Path:
    """Where the next record of a point goes: its own folder, or one beside the old ones."""
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
    """The status of a record that can be kept, or None where the point has to run."""
    if not is_finished(folder):
        return None
    try:
        return read_record(folder).status
    except BrokenRecord:
        return None


# Reading back


class BrokenRecord(ValueError):
    """A record that cannot be trusted: one line that names the file and what is wrong."""


@dataclass(frozen=True)
class Record:
    """One run as it was written."""

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
            return pandas.read_csv(path, dtype=dict.fromkeys(_TEXT_FIELDS, str))
        except (OSError, ValueError) as error:
            raise BrokenRecord(f"{path}: cannot be read: {error}") from None

    @cached_property
    def answers(self) -> list[dict[str, Any]]:
        return list(_read_answers(self.folder / "answers.jsonl"))


@dataclass(frozen=True)
class Collection:
    """The records of a folder, and what had to be left out."""

    records: list[Record]
    problems: list[str]


def read(results_dir: Path | str) -> Collection:
    """Read every record below a results folder; a broken one is named and left out."""
    records, problems = [], []
    for folder in _record_folders(Path(results_dir)):
        try:
            records.append(read_record(folder))
        except BrokenRecord as problem:
            problems.append(str(problem))
    return Collection(records, problems)


def load(results_dir: Path | str) -> pandas.DataFrame:
    """One tidy row a run, with the summary columns; a record that is left out is warned of.

    `docs/columns.md` explains every column. `speedup` and `agreement`, which hold a run against
    another one, are filled by `profiling.report.to_frame` only.
    """
    found = read(results_dir)
    for problem in found.problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return tabulate(
        [
            record.run["summary"] | {"fingerprint": record.fingerprint, "status": record.status}
            for record in found.records
        ]
    )


def tabulate(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Rows as a table of the summary columns: numbers, texts and truth values, some missing.

    A column has one kind whatever stands in it, so that one without any value can be reckoned with.
    """
    import pandas

    columns = {name: [row.get(name) for row in rows] for name in SUMMARY_COLUMNS}
    return pandas.DataFrame(
        {name: pandas.Series(cells, dtype=_kind(name, cells)) for name, cells in columns.items()}
    )


# Up to here a whole number and its float are the same.
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
        found = [entry.path for entry in entries if entry.is_dir() and entry.name[0] != "."]
    return [Path(path) for path in sorted(found)]


def read_record(folder: Path) -> Record:
    """One record; raises where it is torn or is not one."""
    path = folder / "run.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BrokenRecord(f"{folder}: no run.json; a run was torn off, run it again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenRecord(f"{path}: cannot be read: {error}") from None
    try:
        run = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BrokenRecord(f"{path}: not valid JSON: {error}") from None
    _check_run(path, run)
    if run["status"] == COMPLETED:
        _check_readings(folder / "readings.csv")
        _check_answers(folder / "answers.jsonl")
    return Record(folder, run)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_SHAPE = {"fingerprint": str, "status": str, "config": dict, "machine": dict, "summary": dict}


def _check_run(path: Path, run: Any) -> None:
    if not isinstance(run, dict):
        raise BrokenRecord(f"{path}: not an object")
    version = run.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BrokenRecord(f"{path}: schema_version {version}, this code reads {SCHEMA_VERSION}")
    for name, kind in _SHAPE.items():
        if not isinstance(run.get(name), kind):
            raise BrokenRecord(f"{path}: {name} is missing or not a {kind.__name__}")
    if run["status"] not in STATUSES:
        raise BrokenRecord(f"{path}: status {run['status']!r} is none of {', '.join(STATUSES)}")
    if not re.fullmatch(r"[0-9A-Za-z_.-]+", run["fingerprint"]):
        raise BrokenRecord(f"{path}: fingerprint {run['fingerprint']!r} is not one")
    for name, value in run["summary"].items():
        if not suits(name, value):
            raise BrokenRecord(f"{path}: summary.{name} is not what it should be")


# Beyond this no quantity of a run lies, and arithmetic with floats begins to fail.
_LARGEST = 1e100
_SURROGATE = re.compile("[\ud800-\udfff]")


def suits(column: str, value: object) -> bool:
    """Whether a column may hold a value; columns of later versions may hold any number or text."""
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
    """A text that can be written to a file, which lone surrogates cannot."""
    return isinstance(value, str) and (value.isascii() or _SURROGATE.search(value) is None)


def _check_readings(path: Path) -> None:
    head, tail = _ends(path)
    header = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if header.split(",") != list(READING_FIELDS):
        raise BrokenRecord(f"{path}: the header is not {','.join(READING_FIELDS)}")
    last = tail.rsplit(b"\n", 2)[-2:]
    if last[-1] != b"":
        raise BrokenRecord(f"{path}: cut off in mid-line")


def _check_answers(path: Path) -> None:
    head, tail = _ends(path)
    if head and not tail.endswith(b"\n"):
        raise BrokenRecord(f"{path}: cut off in mid-line")


def _ends(path: Path, *, size: int = 4096) -> tuple[bytes, bytes]:
    try:
        with path.open("rb") as stream:
            head = stream.read(size)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
            return head, stream.read(size)
    except OSError as error:
        raise BrokenRecord(f"{path}: cannot be read: {error.strerror}") from None


def _read_answers(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                answer = json.loads(line, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise BrokenRecord(f"{path}: line {number}: not valid JSON: {error}") from None
            if not isinstance(answer, dict):
                raise BrokenRecord(f"{path}: line {number}: not an object")
            yield answer
