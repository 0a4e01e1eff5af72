"""Findings as one self-contained page: the tree of modules, coloured, and every call's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from profiling.captures.findings import Column, Findings
from profiling.captures.table import number
from profiling.parts.artifacts import replacing

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
  color: #1b1f24; background: #fff; }
summary { cursor: pointer; padding: 1px 4px; border-left: 6px solid var(--c, #ddd); }
details details { margin-left: 1.2em; }
table { border-collapse: collapse; margin: .3em 0 .6em 1.6em; font-variant-numeric: tabular-nums; }
td, th { padding: 1px 10px; text-align: right; border-bottom: 1px solid #eee; }
td:first-child, th:first-child, td.why { text-align: left; }
.kind { color: #667; } .failed { color: #b3261e; font-weight: 600; }
.key span { border-left: 6px solid var(--c); padding: 0 1em 0 .4em; }
code { background: #f4f5f7; padding: 0 3px; }
"""
# From far below the limit to far above it; chosen to differ in lightness as well as in hue.
_COLOURS = (("#3b7dd8", "far below the limit"), ("#8fbf6a", "near the limit"), ("#f0a030", "above"))
_FAR_ABOVE = ("#b3261e", "far above")
_UNJUDGED = "#ddd"


@dataclass
class _Node:
    """A module, the modules inside of it, and the rows of its calls."""

    path: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    inside: dict[str, _Node] = field(default_factory=dict)

    def find(self, path: str) -> _Node:
        node, passed = self, ""
        for step in path.split(".") if path else ():
            passed = f"{passed}.{step}" if passed else step
            node = node.inside.setdefault(step, _Node(passed))
        return node

    def every_row(self) -> Iterator[dict[str, Any]]:
        yield from self.rows
        for node in self.inside.values():
            yield from node.every_row()


def write_page(findings: Findings, path: Path, *, title: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text("\n".join(_page(findings, title)), encoding="utf-8")


def _page(findings: Findings, title: str) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(findings.question)}"
    yield "<ul>" + "".join(f"<li>{escape(text)}" for text in findings.sentences) + "</ul>"
    yield "<p class=key>"
    for colour, meaning in (*_COLOURS, _FAR_ABOVE):
        yield f'<span style="--c:{colour}">{meaning}</span>'
    root = _Node("")
    for row in findings.rows:
        root.find(row["module"]).rows.append(row)
    yield from _tree(root, findings.columns)
    if findings.blind:
        yield "<h2>Blind spots</h2><p>An error in one of these would not show in this capture.<ul>"
        yield from (f"<li><code>{escape(s.name)}</code> {escape(s.reason)}" for s in findings.blind)
        yield "</ul>"


def _tree(node: _Node, columns: Sequence[Column]) -> Iterator[str]:
    rows = list(node.every_row())
    failed = any(row["failed"] for row in rows)
    colour = _colour(rows, columns)
    kind = node.rows[0]["kind"] if node.rows else ""
    name = node.path.rpartition(".")[2] or "the network"
    opened = " open" if failed or not node.path else ""
    mark = " class=failed" if failed else ""
    yield f'<details{opened}><summary style="--c:{colour}"><span{mark}>{escape(name)}</span>'
    yield f" <span class=kind>{escape(kind)}</span></summary>"
    if node.rows:
        yield from _calls(node.rows, columns)
    for inner in node.inside.values():
        yield from _tree(inner, columns)
    yield "</details>"


def _calls(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Iterator[str]:
    heads = "".join(f"<th>{escape(column.title)}" for column in columns)
    yield f"<table><tr><th>call{heads}<th>"
    for row in rows:
        cells = "".join(f"<td>{_cell(row[column.key])}" for column in columns)
        mark = " class=failed" if row["failed"] else ""
        yield f"<tr{mark}><td>{row['number']}{cells}<td class=why>{escape(row.get('why', ''))}"
        if row["failed"] and row.get("worst"):
            yield f"<tr><td><td class=why colspan={len(columns) + 1}>{_worst(row['worst'])}"
    yield "</table>"


def _worst(elements: Sequence[dict[str, Any]]) -> str:
    return "<br>".join(
        f"<code>{escape(one['output'] or 'output')}{one['index']}</code>"
        f" {one['found']:.6g} instead of {one['wanted']:.6g}"
        for one in elements
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else number(value)


def _colour(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> str:
    """By the largest ratio of a number to its limit, of this module and all inside of it."""
    ratios = [
        _ratio(row[column.key], column.limit)
        for row in rows
        for column in columns
        if column.limit is not None and row[column.key] is not None
    ]
    if any(row["failed"] for row in rows):
        return _FAR_ABOVE[0] if max(ratios, default=math.inf) > 100 else _COLOURS[2][0]
    if not ratios:
        return _UNJUDGED
    return _COLOURS[0][0] if max(ratios) < 0.3 else _COLOURS[1][0]


def _ratio(value: float, limit: float) -> float:
    if math.isnan(value):
        return math.inf
    return value / limit if limit else math.inf if value else 0.0
