"""The published table: its rows are the preset's points, and runs are set beside its values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from profiling import PROJECT
from profiling.report.command import main
from profiling.report.read.runs import read_runs
from profiling.report.write.published import find_runs, read_published
from tests.report.synthetic import write_run

CONF = PROJECT / "conf"
POINT = {"model": "llava", "optimization": "fp16", "img_size": 224, "max_new_tokens": 50}


def swept() -> set[tuple[str, ...]]:
    """The points of the preset, written as the rows of the table are."""
    text = (CONF / "experiment" / "published_table.yaml").read_text(encoding="utf-8")
    sweeper = yaml.safe_load(text)["hydra"]["sweeper"]
    shared, points = sweeper["params"], set()
    for block in sweeper["blocks"].values():
        stacks = _split_stacks(str(block["optimization"]))
        for model in shared["model"].split(","):
            for dataset in shared["dataset"].split(","):
                for stack in stacks:
                    for side in str(block["img_size"]).split(","):
                        for length in str(block["prompt_len"]).split(","):
                            for size in str(block["batch_size"]).split(","):
                                length = length.replace("null", "")
                                points.add((model, dataset, stack, side, length, size))
    return points


def _split_stacks(text: str) -> list[str]:
    """`fp16,[fp16,compile]` as the names that a run's stack has: joined by +."""
    stacks = yaml.safe_load(f"[{text}]")
    return ["+".join(stack) if isinstance(stack, list) else stack for stack in stacks]


def test_the_rows_are_the_points_of_the_preset_as_far_as_there_are_optimizations() -> None:
    there = {path.stem for path in (CONF / "optimization").glob("*.yaml")}
    rows = {row.setting for row in read_published()}
    possible = {row for row in rows if set(row[2].split("+")) <= there}
    assert swept() == possible
    assert len(rows) == 165


def test_every_value_is_a_positive_number_where_there_is_one() -> None:
    values = [value for row in read_published() for value in row.values.values()]
    assert all(value is None or value > 0 for value in values)
    assert sum(value is not None for value in values) == 20 + 20 + 5 + 12 + 12 + 12


def page(tmp_path: Path) -> str:
    assert main([str(tmp_path / "results"), "--output", str(tmp_path / "pages")]) == 0
    return (tmp_path / "pages" / "published_table.md").read_text(encoding="utf-8")


def line_of(text: str, *, starts: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(starts)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_run_with_published_weights_is_compared_with_the_published_value(tmp_path: Path) -> None:
    write_run(
        tmp_path / "results",
        **POINT,
        weights="pretrained",
        summary={"latency_s": 0.698, "latency_ci_low_s": 0.69, "latency_ci_high_s": 0.71},
    )
    cells = line_of(page(tmp_path), starts="| llava | 1 |")
    assert cells[3:6] == ["349", "698 [690, 710]", "2.00×"]


def test_tiny_weights_stand_beside_it_without_a_ratio(tmp_path: Path) -> None:
    write_run(tmp_path / "results", **POINT)
    text = page(tmp_path)
    assert "| llava‡ | 1 |" in text and "×" not in text
    index = (tmp_path / "pages" / "index.md").read_text(encoding="utf-8")
    assert "(published_table.md)" in index


@pytest.mark.parametrize("other", [{"optimization": "bf16"}, {"max_new_tokens": 20}])
def test_a_run_of_another_setting_is_no_row_of_it(other: dict[str, object], tmp_path: Path) -> None:
    write_run(tmp_path / "results", **{**POINT, **other})  # type: ignore[arg-type]
    assert find_runs(read_runs(tmp_path / "results").runs) == {}
    assert main([str(tmp_path / "results"), "--output", str(tmp_path / "pages")]) == 0
    assert not (tmp_path / "pages" / "published_table.md").exists()


def test_published_weights_come_before_others(tmp_path: Path) -> None:
    for weights in ("tiny", "pretrained", "random"):
        write_run(tmp_path / "results", **POINT, weights=weights)
    (run,) = find_runs(read_runs(tmp_path / "results").runs).values()
    assert run["weights"] == "pretrained"
