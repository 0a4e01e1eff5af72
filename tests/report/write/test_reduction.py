"""The page about token reduction: each method beside random tokens at the same place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profiling.report.read.runs import read_runs
from profiling.report.write.reduction import write_reduction
from tests.report.synthetic import write_run

RIGHT = [f"sign number {number}" for number in range(24)]


def write(results: Path, method: str, keep: float, layer: int, answers: list[str]) -> None:
    settings = {"method": method, "keep": keep, "layer": layer, "seed": 0}
    kept: dict[str, Any] = {"visual_tokens_kept": 64 * keep, "pruned_from_layer": layer}
    folder = write_run(
        results,
        optimization="token_pruning",
        suffix=f"-{method}-{layer}-{keep}".replace(".", "")[:30],
        samples=24,
        answers=answers,
        summary=kept,
    )
    path = folder / "run.json"
    run = json.loads(path.read_text())
    run["config"]["optimization"] = {"token_pruning": settings}
    path.write_text(json.dumps(run))


def page(results: Path) -> list[str]:
    return write_reduction(read_runs(results).runs, "command")


def row_of(lines: list[str], method: str, layer: int, keep: float) -> list[str]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    (row,) = (row for row in cells if row[1:4] == [method, str(layer), str(keep)])
    return row


def test_a_method_is_compared_with_random_at_its_own_place(tmp_path: Path) -> None:
    wrong, right = [*["nothing at all"] * 20, *RIGHT[20:]], RIGHT
    write(tmp_path, "random", 0.5, 0, wrong)
    write(tmp_path, "divprune", 0.5, 0, right)
    write(tmp_path, "fastv", 0.5, 2, wrong)
    write(tmp_path, "random", 0.5, 2, right)
    lines = page(tmp_path)
    assert lines[0] == "# Token reduction against random tokens"
    better, worse = row_of(lines, "divprune", 0, 0.5)[-1], row_of(lines, "fastv", 2, 0.5)[-1]
    assert better.startswith("**\N{MINUS SIGN}")
    assert worse.startswith("**+")
    assert row_of(lines, "random", 0, 0.5)[-1] == "\N{EN DASH}"


def test_without_a_control_there_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, "divprune", 0.5, 0, RIGHT)
    write(tmp_path, "random", 0.25, 0, RIGHT)
    assert not any("change from random" in line for line in page(tmp_path))


def test_without_such_runs_there_is_no_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert page(tmp_path) == []
