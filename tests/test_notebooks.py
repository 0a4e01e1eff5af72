"""Every notebook runs top to bottom, in a real kernel, on the records shipped with the project."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notebooks.execute import execute, list_notebooks
from profiling.points.options import list_families
from profiling.report import read_runs
from profiling.report.read.pictures import find_samples, match

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The fast suite runs the one that asks the most of the records.
ALWAYS_RUN = "compare_image_sizes"
# The one that measures; what it puts out is never the same twice.
MEASURES = "your_own_two_checkpoints"
LARGEST_RECORDS_BYTES = 1_500_000


def read(path: Path) -> dict[str, Any]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(notebook, dict)
    return notebook


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def run(path: Path) -> list[dict[str, Any]]:
    """What the cells put out; a cell that raises fails."""
    return [out for cell in execute(path).cells for out in cell.get("outputs", ())]


def texts_of(outputs: list[dict[str, Any]]) -> list[str]:
    """What stands in tables and sentences; pictures are left out, since fonts differ."""
    kinds = ("text/markdown", "text/html")
    found = [out.get("data", {}).get(kind, "") for out in outputs for kind in kinds]
    # Styled tables have an identity of their own each time.
    return [re.sub(r"T_[0-9a-f]+", "", "".join(text)) for text in found]


def test_the_questions_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == {
        "compare_image_sizes",
        "compare_optimizations",
        "energy_against_quality",
        "where_the_time_goes",
        MEASURES,
    }


@EVERY_NOTEBOOK
def test_a_notebook_is_kept_with_its_outputs(path: Path) -> None:
    cells = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell["outputs"]]
    assert {out["output_type"] for out in outputs} <= {"execute_result", "display_data", "stream"}
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert [out for out in outputs if out.get("name") == "stderr"] == []


@EVERY_NOTEBOOK
def test_no_path_of_the_machine_that_ran_it_is_kept(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert str(PROJECT) not in text and "ipykernel_" not in text


@EVERY_NOTEBOOK
def test_the_first_cell_shows_a_result(path: Path) -> None:
    first = next(cell for cell in read(path)["cells"] if cell["cell_type"] == "code")
    assert first["source"][0] == "import profiling\n"
    assert "execute_result" in {out["output_type"] for out in first["outputs"]}


@EVERY_NOTEBOOK
def test_the_public_api_is_enough(path: Path) -> None:
    imported = {
        alias.name
        for source in sources(path)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= {"profiling", "pandas"}
    assert not any("import" in line and "from " in line for line in sources(path))


@EVERY_NOTEBOOK
def test_no_name_means_something_else_further_down(path: Path) -> None:
    """So that a cell gives the same however often and after whichever it was run."""
    cells = [names_bound_by(source) for source in sources(path)]
    times = Counter(name for names in cells for name in names)
    assert [name for name, count in times.items() if count > 1] == []


def names_bound_by(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        else:
            names |= set(_stored(node))
    return names


def _stored(node: ast.AST) -> list[str]:
    """Names that a statement assigns; those of a comprehension are its own."""
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda):
        return []
    own = [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []
    return own + [name for child in ast.iter_child_nodes(node) for name in _stored(child)]


def test_the_shipped_records_are_small_and_sound() -> None:
    files = [path for path in (FOLDER / "records").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_RECORDS_BYTES
    found = read_runs(FOLDER / "records")
    assert found.problems == []
    assert {run["model"] for run in found.runs} == set(list_families())


def test_the_shipped_records_find_their_pictures_wherever_the_project_lies() -> None:
    record = read_runs(FOLDER / "records").runs[0].record
    moved = replace(record, run=record.run | {"config": {"dataset": {"name": "textvqa"}}})
    asked = find_samples(moved)
    pictures = {match(asked, line).picture for line in record.answers}
    assert len(pictures) == len(record.answers)
    assert all(picture and picture.is_relative_to(PROJECT / "datasets") for picture in pictures)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem == ALWAYS_RUN else pytest.mark.slow, id=path.stem)
        for path in NOTEBOOKS
        if path.stem != MEASURES
    ],
)
def test_a_notebook_says_what_it_said_when_it_was_kept(path: Path) -> None:
    outputs = run(path)
    kept = [out for cell in read(path)["cells"] for out in cell.get("outputs", ())]
    assert texts_of(outputs) == texts_of(kept)
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    assert {"image/png", "text/markdown", "text/html"} <= kinds


@pytest.mark.slow
def test_the_notebook_that_measures_runs(tmp_path: Path) -> None:
    """Beside a copy of itself, so that it measures anew and leaves nothing behind."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "checkpoints").symlink_to(PROJECT / "checkpoints")
    copy = folder / f"{MEASURES}.ipynb"
    copy.write_bytes((FOLDER / copy.name).read_bytes())
    outputs = [out for cell in execute(copy).cells for out in cell.get("outputs", ())]
    assert (tmp_path / "results_checkpoints" / "comparisons").is_dir()
    assert any("image/png" in out.get("data", {}) for out in outputs)


def test_another_notebook_is_refused() -> None:
    with pytest.raises(SystemExit, match="no_such: there is no such notebook"):
        list_notebooks(["no_such"])
