"""The findings as a table for a terminal, line by line."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from profiling.selfcheck.finding import CANNOT, OFF, OK, Finding

_WIDTHS = (45, 20, 20, 9)
_INDENT = "    "
_LINE = 100


def heading() -> Iterator[str]:
    yield _row("check", "expected", "found", "deviation", "verdict")
    yield _row(*("-" * width for width in _WIDTHS), "-------")


def lines(finding: Finding) -> Iterator[str]:
    yield _row(finding.check, finding.expected, finding.found, finding.deviation, finding.verdict)
    if finding.why:
        yield from textwrap.wrap(
            finding.why, _LINE, initial_indent=_INDENT, subsequent_indent=_INDENT
        )


def _row(*cells: str) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join([*padded, cells[-1]])


def totals(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in (OK, OFF, CANNOT))
