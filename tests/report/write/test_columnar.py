"""Parquet files and dataset folders have the data of the records, with types and without paths."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from profiling.records import SUMMARY_COLUMNS
from profiling.report.command import main
from profiling.report.read.runs import read_runs
from tests.report.synthetic import MACHINE, write_run


def test_without_the_package_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "results")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main([str(tmp_path / "results"), "--parquet", str(tmp_path / "runs.parquet")]) == 2
    error = capsys.readouterr().err
    assert "pip install -r requirements-data.txt" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "runs.parquet").exists()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="Parquet needs requirements-data.txt")
    folder = tmp_path / "results"
    machine = {**MACHINE, "gpus": [{"name": "A GPU", "uuid": "GPU-secret"}]}
    write_run(folder, model="llava", machine=machine)
    write_run(folder, model="fuyu", prompt_len=16, answers=["ein <b>Wort</b>"] * 8)
    write_run(folder, model="fuyu", img_size=560, status="out_of_memory", error="too large")
    return folder


def test_a_parquet_file_holds_the_rows_of_the_csv_file(results: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    assert main([str(results), "--parquet", str(tmp_path / "new" / "runs.parquet")]) == 0
    table = pyarrow.parquet.read_table(tmp_path / "new" / "runs.parquet")
    runs = read_runs(results).runs
    assert tuple(table.column_names) == SUMMARY_COLUMNS
    assert table.to_pylist() == [
        {column: run[column] for column in SUMMARY_COLUMNS} for run in runs
    ]
    kinds = {name: str(table.schema.field(name).type) for name in SUMMARY_COLUMNS}
    assert (kinds["prompt_len"], kinds["noisy"], kinds["dtype"]) == ("int64", "bool", "string")
    # Nothing was measured there, and it is a number all the same.
    assert kinds["gpu_memory_peak_bytes"] == "double"


def test_a_dataset_folder_holds_runs_readings_and_answers(results: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    for _ in range(2):
        assert main([str(results), "--dataset", str(tmp_path / "set")]) == 0
    tables = {
        name: pyarrow.parquet.read_table(tmp_path / "set" / f"{name}.parquet")
        for name in ("runs", "readings", "answers")
    }
    assert tables["runs"].num_rows == 3
    written = sum(len(run.record.readings) for run in read_runs(results).runs if run.completed)
    assert tables["readings"].num_rows == written
    assert tables["answers"].num_rows == 16
    assert "ein <b>Wort</b>" in tables["answers"]["answer"].to_pylist()
    assert {"README.md", *(f"{name}.parquet" for name in tables)} == set(
        os.listdir(tmp_path / "set")
    )


def test_a_dataset_has_no_host_name_and_no_path(results: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    assert main([str(results), "--dataset", str(tmp_path / "set")]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / "set" / "runs.parquet").to_pylist()
    text = json.dumps(rows)
    for secret in ('synthetic\\"', "GPU-secret", "/data/", str(results)):
        assert secret not in text
    assert "A GPU" in text and "Synthetic CPU" in text


@pytest.mark.slow
def test_the_library_loads_the_folder(results: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="loading needs requirements-data.txt")
    folder, cache = str(tmp_path / "set"), str(tmp_path / "cache")
    assert main([str(results), "--dataset", folder]) == 0
    runs = datasets.load_dataset(folder, cache_dir=cache)["train"]
    assert set(runs["model"]) == {"llava", "fuyu"} and runs.num_rows == 3
    answers = datasets.load_dataset(folder, "answers", cache_dir=cache)["train"]
    assert answers[0]["references"] == ["sign number 0"]
