"""The command line: what it writes, what it refuses, and what it imports."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.records import SUMMARY_COLUMNS
from profiling.report import read_runs, to_frame
from profiling.report.command import main
from tests.report.synthetic import write_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write_run(folder)
    write_run(folder, optimization="bf16", prompt_len=16)
    write_run(folder, status="out_of_memory", error="out of memory at batch 512", batch_size=512)
    write_run(folder, status="unsupported", error="no compiler", optimization="compile")
    write_run(folder, status="failed", error="boom", optimization="int4")
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_the_columns_and_a_row_a_run(results: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "table.csv"
    assert main([str(results), "--csv", str(target)]) == 0
    assert target.read_text(encoding="utf-8").splitlines()[0].split(",") == list(SUMMARY_COLUMNS)
    rows = read_csv(target)
    assert sorted(row["status"] for row in rows) == [
        "completed",
        "completed",
        "failed",
        "out_of_memory",
        "unsupported",
    ]
    assert list(tmp_path.glob("**/*.md")) == []


def test_csv_leaves_empty_what_has_no_value(results: Path, tmp_path: Path) -> None:
    main([str(results), "--csv", str(tmp_path / "t.csv")])
    rows = {row["optimization"]: row for row in read_csv(tmp_path / "t.csv")}
    assert rows["int4"]["latency_s"] == rows["int4"]["wer"] == ""
    assert rows["bf16"]["energy_j"] == rows["bf16"]["agreement"] == ""
    assert rows["bf16"]["prompt_len"] == "16"
    assert rows["bf16"]["noisy"] == "false"
    assert float(rows["bf16"]["latency_s"]) > 0


def test_json_holds_the_same(results: Path, tmp_path: Path) -> None:
    main([str(results), "--json", str(tmp_path / "t.json"), "--csv", str(tmp_path / "t.csv")])
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    table = read_csv(tmp_path / "t.csv")
    for row, cells in zip(rows, table, strict=True):
        assert list(row) == list(SUMMARY_COLUMNS)
        assert {column for column, value in row.items() if value is None} == {
            column for column, cell in cells.items() if cell == ""
        }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: there is no such results folder"),
        (["empty"], "empty: holds no run that can be read"),
        (["--frobnicate"], "--frobnicate"),
        (["results", "--csv", "results"], "results: cannot be written"),
        (["results", "--output", "file"], "file: cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err
    assert output.err.count("\n") == 1


BREAKS = {
    "truncated": ("run.json", r'"started_at".*', ""),
    "schema": ("run.json", r'"schema_version": 1', '"schema_version": 99'),
    "nan": ("run.json", r'"latency_s": [^,]+', '"latency_s": NaN'),
    "kind": ("run.json", r'"vision_s": [^,]+', '"vision_s": "long"'),
    "cut": ("readings.csv", r".{7}\Z", ""),
    "cells": ("readings.csv", r"vision,latency_s,", "vision,"),
    "infinity": ("readings.csv", r"vision,latency_s,[^,]+", "vision,latency_s,inf"),
    "words": ("readings.csv", r"vision,latency_s,[^,]+", "vision,latency_s,long"),
    "status": ("readings.csv", r"measured", "guessed"),
    "answer": ("answers.jsonl", r'"answer"', '"reply"'),
    "answer_json": ("answers.jsonl", r'{"id"', '{"id'),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_record_is_named_and_nothing_else_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    write_run(tmp_path / "r")
    broken = write_run(tmp_path / "r", img_size=448)
    name, sound, spoilt = BREAKS[how]
    text = (broken / name).read_text(encoding="utf-8")
    spoiled = re.sub(sound, spoilt, text, count=1, flags=re.DOTALL)
    assert spoiled != text
    (broken / name).write_text(spoiled, encoding="utf-8")
    assert main([str(tmp_path / "r"), "--csv", str(tmp_path / "t.csv")]) == 0
    said = capsys.readouterr().err
    assert str(broken / name) in said
    assert said.count("\n") == 1
    assert [row["img_size"] for row in read_csv(tmp_path / "t.csv")] == ["224"]


def test_the_import_is_light() -> None:
    code = (
        "import sys, profiling.report.command;"
        "heavy = {'torch', 'transformers', 'matplotlib', 'pandas', 'hydra'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module(results: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "profiling.report", str(results), "--csv", "t.csv"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "t.csv").is_file()


def test_the_frame_is_tidy(results: Path) -> None:
    frame = to_frame(read_runs(results).runs)
    assert list(frame.columns) == list(SUMMARY_COLUMNS)
    assert len(frame) == 5
    assert frame["latency_s"].notna().sum() == 2
    assert frame.loc[frame["latency_s"].notna(), "latency_s"].dtype == float
