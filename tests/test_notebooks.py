"""Every notebook runs top to bottom, in a real kernel, on the records shipped with the project."""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from profiling.points.options import list_families
from profiling.report import read_runs
from profiling.report.read.pictures import find_samples, match

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EVERY_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The fast suite runs the one that asks the most of the records.
ALWAYS_RUN = "compare_image_sizes"
LARGEST_RECORDS_BYTES = 1_500_000


class OwnKernel(AsyncKernelManager):
    """A kernel of the Python that runs the tests, whatever kernels are registered here."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="the tests' own", language="python")


def read(path: Path) -> dict[str, Any]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(notebook, dict)
    return notebook


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def run(path: Path) -> list[dict[str, Any]]:
    """What the cells put out; a cell that raises fails."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    return [out for cell in notebook.cells for out in cell.get("outputs", ())]


def test_the_questions_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == {
        "compare_image_sizes",
        "compare_optimizations",
        "energy_against_quality",
        "where_the_time_goes",
    }


@EVERY_NOTEBOOK
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


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
    ],
)
def test_a_notebook_runs(path: Path) -> None:
    outputs = run(path)
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    assert {"image/png", "text/markdown", "text/html"} <= kinds
    said = "".join(out["data"].get("text/markdown", "") for out in outputs if "data" in out)
    assert "nan" not in said.lower().split() and "None" not in said
    # A warning on the error stream is something that a reader should not have to judge.
    assert [out["text"] for out in outputs if out.get("name") == "stderr"] == []
