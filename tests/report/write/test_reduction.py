"""The page about token reduction: each method beside random tokens at the same place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from profiling.report.read.runs import read_runs
from profiling.report.write.reduction import write_reduction
from profiling.report.write.sections import Page
from tests.report.synthetic import write_comparison, write_run

RIGHT = [f"sign number {number}" for number in range(24)]


def write(results: Path, method: str, keep: float, layer: int, answers: list[str]) -> Path:
    settings = {"method": method, "keep": keep, "layer": layer, "seed": 0}
    kept: dict[str, Any] = {"visual_tokens_kept": 64 * keep, "pruned_from_layer": layer}
    made = write_run(
        results, optimization="token_pruning", samples=24, answers=answers, summary=kept
    )
    # each point has a fingerprint of its own, by which comparisons find it
    own = hashlib.sha256(f"{method} {layer} {keep}".encode()).hexdigest()[:16]
    folder = made.rename(results / own)
    path = folder / "run.json"
    run = json.loads(path.read_text())
    run["config"]["optimization"] = {"token_pruning": settings}
    run["fingerprint"] = own
    path.write_text(json.dumps(run))
    return folder


def page(results: Path) -> list[str]:
    made = Page(output=results / "pages", stem="token_reduction")
    return write_reduction(made, read_runs(results).runs, "command")


def row_of(lines: list[str], method: str, layer: int, keep: float) -> list[str]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return next(row for row in cells if row[1:4] == [method, str(layer), str(keep)])


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


def test_sentences_name_what_intervals_show_and_no_more(tmp_path: Path) -> None:
    wrong = [*["nothing at all"] * 20, *RIGHT[20:]]
    full = write_run(tmp_path, samples=24, answers=RIGHT)
    write(tmp_path, "random", 0.5, 0, wrong)
    better = write(tmp_path, "divprune", 0.5, 0, RIGHT)
    write(tmp_path, "random", 0.25, 0, wrong)
    alike = write(tmp_path, "divprune", 0.25, 0, wrong)
    write_comparison(full, better, ratio=1.3, reach=1.1, phases={"prefill": 2.0})
    write_comparison(full, alike, ratio=1.3, reach=1.5, phases={"prefill": 0.5})
    lines = page(tmp_path)
    assert "- Word error rate: shown to be better than random tokens: divprune (0.5)." in lines
    assert "- Time: shown to be faster than the full model: divprune (0.5)." in lines
    faster = "shown to be faster than the full model: divprune (0.5)"
    slower = "shown to be slower than the full model: divprune (0.25)"
    assert f"- Time of the prefill: {faster}; {slower}." in lines
    row = row_of([line for line in lines if "paired, " in line], "divprune", 0, 0.5)
    assert "1.30× [1.18, 1.43]" in row and "2.00× [1.82, 2.20]" in row


def test_the_full_model_stands_before_the_methods(tmp_path: Path) -> None:
    write(tmp_path, "random", 0.5, 0, RIGHT)
    other = {"img_size": 112, "samples": 24, "answers": RIGHT}
    write_run(tmp_path, **other)
    assert not any("full model |" in line for line in page(tmp_path))
    full = write_run(tmp_path, samples=24, answers=RIGHT)
    (first, *_) = [line for line in page(tmp_path) if "full model |" in line]
    assert f"`{full.name[:8]}`" in first


def test_curves_are_drawn_where_there_are_shares_to_compare(tmp_path: Path) -> None:
    full = write_run(tmp_path, samples=24, answers=RIGHT)
    one = write(tmp_path, "random", 0.5, 0, RIGHT)
    write_comparison(full, one, ratio=1.3, reach=1.1, phases={"prefill": 2.0})
    assert not any(line.startswith("![") for line in page(tmp_path))
    other = write(tmp_path, "fastv", 0.25, 2, RIGHT)
    write_comparison(full, other, ratio=1.5, reach=1.1, phases={"prefill": 3.0})
    shown = [line for line in page(tmp_path) if line.startswith("![")]
    assert len(shown) == 3
    assert all((tmp_path / "pages" / line.split("(")[1][:-1]).is_file() for line in shown)


def test_without_a_control_there_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, "divprune", 0.5, 0, RIGHT)
    write(tmp_path, "random", 0.25, 0, RIGHT)
    assert not any("change from random" in line for line in page(tmp_path))


def test_without_such_runs_there_is_no_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert page(tmp_path) == []
