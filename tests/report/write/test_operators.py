"""The section about traced runs: the slowest operators and kinds of layers of each phase."""

from __future__ import annotations

import csv
from pathlib import Path

from profiling.records import MEASURED, READING_FIELDS
from profiling.report import read_runs
from profiling.report.write.operators import list_traced
from tests.report.synthetic import write_run

# Phase, metric, seconds, source.
ROWS = (
    ("decode", "operator_s", 0.2, "aten::mm [1, 8] in head (head), 7 calls; torch.profiler"),
    ("prefill", "operator_s", 3.0, "aten::copy_ [8, 9] in head (head), 1 call; torch.profiler"),
    (
        "prefill",
        "operator_s",
        0.5,
        "aten::mm [4] in layers.*.fc1 (mlp), 2 calls; torch.profiler",
    ),
    ("prefill", "operator_s", 0.4, "third; torch.profiler"),
    ("prefill", "operator_s", 0.1, "fourth; torch.profiler"),
    ("decode", "layer_s", 0.2, "head; torch.profiler"),
    ("prefill", "layer_s", 3.0, "head; torch.profiler"),
    ("prefill", "layer_s", 1.0, "mlp; torch.profiler"),
)


def add_rows(folder: Path) -> None:
    with (folder / "readings.csv").open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, READING_FIELDS, lineterminator="\n")
        for number, (phase, metric, seconds, source) in enumerate(ROWS, 1):
            writer.writerow(
                {
                    **{"phase": phase, "metric": metric, "value": seconds, "unit": "s"},
                    **{"status": MEASURED, "source": source, "repeat": number, "batch": 0},
                }
            )


def test_the_slowest_come_first_with_their_share_of_the_phase(tmp_path: Path) -> None:
    add_rows(write_run(tmp_path, model="llava"))
    write_run(tmp_path, model="fuyu")
    lines = list_traced(read_runs(tmp_path).runs)
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and "--" not in line]
    shown = [(row[0].strip("| "), row[1].split(" ")[0], row[-1].strip(" |")) for row in rows]
    assert shown == [
        ("phase", "layer", "of the phase"),
        ("prefill", "head", "75%"),
        ("prefill", "mlp", "25%"),
        ("decode", "head", "100%"),
        ("phase", "operator", "of the phase"),
        ("prefill", "aten::copy&#95;", "75%"),
        ("prefill", "aten::mm", "12%"),
        ("prefill", "third", "10%"),
        ("decode", "aten::mm", "100%"),
    ]
    assert sum(line.startswith("Run ") for line in lines) == 1
    assert "layers.&#42;.fc1" in "\n".join(lines)
