"""The four rooms of the report import one way, and repeat nothing that a metric declares."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from profiling.metrics import COUNT
from profiling.metrics.catalog import _METRICS
from tests.composing import PROJECT

REPORT = PROJECT / "profiling" / "report"
# A room imports from itself and from the rooms before it.
ROOMS = ("read", "say", "draw", "write")
FILES = sorted(path for room in ROOMS for path in (REPORT / room).rglob("*.py"))
# How units are scaled for people, and the letters that stand for shapes of points.
NOT_OF_METRICS = ("units", "palette")


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def name_of(path: Path) -> str:
    return str(path.relative_to(REPORT))


def rooms_of(path: Path) -> set[str]:
    modules = [node.module or "" for node in nodes_of(path) if isinstance(node, ast.ImportFrom)]
    parts = [module.split(".") for module in modules]
    return {part[2] for part in parts if part[:2] == ["profiling", "report"] and len(part) > 2}


def test_rooms_import_one_way() -> None:
    wrong = {}
    for path in FILES:
        before = ROOMS[: ROOMS.index(path.relative_to(REPORT).parts[0]) + 1]
        wrong[name_of(path)] = rooms_of(path) - set(before)
    assert FILES and {name: rooms for name, rooms in wrong.items() if rooms} == {}


@cache
def texts_of(path: Path) -> set[str]:
    """The text constants of a file, also the plain parts of formatted ones; no docstrings."""
    docstrings = {id(node.value) for node in nodes_of(path) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in nodes_of(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    }


def test_no_title_is_written_a_second_time() -> None:
    titles = {text for metric in _METRICS.values() for text in (metric.title, metric.words)}
    # A title of one plain word is needed as that word too.
    own = {title.lower() for title in titles if not (title.isalpha() and title.islower())}
    again = {}
    for path in FILES:
        texts = texts_of(path) - _METRICS.keys()
        again[name_of(path)] = own & {text.strip(" ,.:").lower() for text in texts}
    assert {name: titles for name, titles in again.items() if titles} == {}


def test_no_unit_is_written_a_second_time() -> None:
    units = {metric.unit for metric in _METRICS.values()} - {COUNT, "px"}
    again = {
        name_of(path): units & texts_of(path) for path in FILES if path.stem not in NOT_OF_METRICS
    }
    assert {name: found for name, found in again.items() if found} == {}
