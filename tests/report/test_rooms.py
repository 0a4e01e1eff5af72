"""The four rooms of the report import one way, and repeat nothing that a metric declares."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from profiling.metrics import COUNT
from profiling.metrics.catalog import _METRICS
from tests.composing import PROJECT

REPORT = PROJECT / "profiling" / "report"
# A room imports from itself and from the rooms before it.
ROOMS = ("read", "say", "draw", "write")
FILES = sorted(path for room in ROOMS for path in (REPORT / room).rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
# How units are scaled for people, and the letters that stand for shapes of points.
NOT_OF_METRICS = ("units", "palette")


def rooms_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    parts = [module.split(".") for module in modules]
    return {part[2] for part in parts if part[:2] == ["profiling", "report"] and len(part) > 2}


@EVERY_FILE
def test_rooms_import_one_way(path: Path) -> None:
    before = ROOMS[: ROOMS.index(path.relative_to(REPORT).parts[0]) + 1]
    assert rooms_of(path) <= set(before)


def texts_of(path: Path) -> set[str]:
    """The text constants of a file, also the plain parts of formatted ones; no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    }


@EVERY_FILE
def test_no_title_is_written_a_second_time(path: Path) -> None:
    titles = {text for metric in _METRICS.values() for text in (metric.title, metric.words)}
    # A title of one plain word is needed as that word too.
    own = {title.lower() for title in titles if not (title.isalpha() and title.islower())}
    texts = texts_of(path) - _METRICS.keys()
    assert own & {text.strip(" ,.:").lower() for text in texts} == set()


@EVERY_FILE
def test_no_unit_is_written_a_second_time(path: Path) -> None:
    units = {metric.unit for metric in _METRICS.values()} - {COUNT, "px"}
    assert path.stem in NOT_OF_METRICS or units & texts_of(path) == set()
