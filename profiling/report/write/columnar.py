"""Write records as Parquet, and as a folder that Hugging Face's `datasets` loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from profiling.metrics import FLAG_COLUMNS, SUMMARY_COLUMNS, TEXT_COLUMNS, WHOLE_COLUMNS
from profiling.records import ANSWER_FIELDS, READING_FIELDS
from profiling.report.read.readings import read_rows
from profiling.report.read.runs import ReportError, Run, without_cache
from profiling.report.say import escape

if TYPE_CHECKING:
    import pyarrow

# What identifies a machine or its owner, and where files lie.
_PRIVATE = frozenset({"hostname", "uuid", "results_dir", "folder", "checkpoint", "url"})
_FACTS = ("config", "machine", "versions", "git")
_CARD = """\
---
pretty_name: Runs of vision-language models
tags:
- vision-language
- profiling
- energy
configs:
- config_name: runs
  default: true
  data_files: runs.parquet
- config_name: readings
  data_files: readings.parquet
- config_name: answers
  data_files: answers.parquet
---

# Runs of vision-language models

{count} runs, written by {command}.

- `runs`: one row per run: the columns of its summary, and as JSON its configuration, machine,
  package versions and commit, without host names and paths.
- `readings`: every number of every run, with its unit, its status (measured, estimated, derived,
  unavailable) and its source; `run` names the run.
- `answers`: the prompts, the references, and the answers of the model.

A missing value is null and never zero. Times are in seconds, energies in joules, sizes in bytes.
`weights` is the kind of the model's weights: `tiny` is a small checkpoint of the real architecture,
`random` has random values; neither has the costs or answers of a published model.

```python
from datasets import load_dataset

runs = load_dataset("this folder")["train"]
answers = load_dataset("this folder", "answers")["train"]
```
"""


def write_parquet(runs: Sequence[Run], path: Path) -> None:
    """The rows of the CSV file, with types."""
    _write(path, [_summaries(runs, _arrow())])


def write_dataset(runs: Sequence[Run], folder: Path, *, command: str) -> None:
    """Three tables and a card; an existing folder is overwritten."""
    arrow = _arrow()
    _write(folder / "runs.parquet", [_whole_runs(runs, arrow)])
    _write(folder / "readings.parquet", (_readings(run, arrow) for run in runs))
    _write(folder / "answers.parquet", (_answers(run, arrow) for run in runs))
    card = _CARD.format(count=len(runs), command=escape.code(command))
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")


def _arrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ReportError(f"{error}; pip install -r requirements-data.txt") from None
    return pyarrow


def _write(path: Path, tables: Iterator[pyarrow.Table] | Sequence[pyarrow.Table]) -> None:
    """One row group per table, so that only one table is in memory at a time."""
    arrow = _arrow()
    writer = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for table in tables:
            writer = writer or arrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if writer is not None:
            writer.close()


def _summaries(runs: Sequence[Run], arrow: ModuleType) -> pyarrow.Table:
    columns = {
        column: arrow.array([run[column] for run in runs], _type_of(column, arrow))
        for column in SUMMARY_COLUMNS
    }
    return arrow.table(columns)


def _type_of(column: str, arrow: ModuleType) -> Any:
    if column in TEXT_COLUMNS:
        return arrow.string()
    if column in FLAG_COLUMNS:
        return arrow.bool_()
    return arrow.int64() if column in WHOLE_COLUMNS else arrow.float64()


def _whole_runs(runs: Sequence[Run], arrow: ModuleType) -> pyarrow.Table:
    table = _summaries(runs, arrow).add_column(0, "run", [[run.name for run in runs]])
    for name in ("started_at", "finished_at", "error"):
        texts = [run.record.run.get(name) for run in runs]
        table = table.append_column(name, arrow.array(texts, arrow.string()))
    for name in _FACTS:
        texts = [_write_fact(run.record.run.get(name)) for run in runs]
        table = table.append_column(name, arrow.array(texts, arrow.string()))
    return table


def _write_fact(fact: Any) -> str:
    return json.dumps(_without_private(fact), sort_keys=True)


def _without_private(fact: Any) -> Any:
    if isinstance(fact, Mapping):
        kept = {key: value for key, value in fact.items() if key not in _PRIVATE}
        return {key: _without_private(value) for key, value in kept.items()}
    if isinstance(fact, list):
        return [_without_private(item) for item in fact]
    return fact


def _readings(run: Run, arrow: ModuleType) -> pyarrow.Table:
    rows = list(read_rows(without_cache(run.record)))
    kinds = {"value": (float, arrow.float64()), "repeat": (int, arrow.int64())}
    kinds["batch"] = kinds["repeat"]
    columns = {"run": arrow.array([run.name] * len(rows), arrow.string())}
    for position, field in enumerate(READING_FIELDS):
        read, kind = kinds.get(field, (str, arrow.string()))
        texts = [row[position] for row in rows]
        columns[field] = arrow.array([read(text) if text else None for text in texts], kind)
    return arrow.table(columns)


def _answers(run: Run, arrow: ModuleType) -> pyarrow.Table:
    there = (run.record.folder / "answers.jsonl").is_file()
    lines = without_cache(run.record).answers if there else []
    columns = {"run": arrow.array([run.name] * len(lines), arrow.string())}
    for field in ANSWER_FIELDS:
        values = [_answer_value(field, line.get(field)) for line in lines]
        columns[field] = arrow.array(values, _answer_type(field, arrow))
    return arrow.table(columns)


def _answer_type(field: str, arrow: ModuleType) -> Any:
    if field in ("id", "prompt", "answer"):
        return arrow.string()
    return arrow.list_(arrow.string()) if field == "references" else arrow.float64()


def _answer_value(field: str, value: Any) -> Any:
    """The value where it is of the field's kind, else None: a record may hold anything."""
    if field in ("id", "prompt", "answer"):
        return value
    if field == "references":
        return [str(text) for text in value] if isinstance(value, list) else None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None
