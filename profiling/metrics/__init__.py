"""Every metric that a run can leave behind, declared once.

A file of this room declares the metrics of one subject: name, unit, phase, title, which direction
is better, who gives it, whether it is a summary column, and which tables of a report show it.
Column lists, readings, report tables and the page about columns are derived from that.
"""

from __future__ import annotations

from profiling.metrics.answers import quality
from profiling.metrics.declaration import (
    ANSWERS,
    COMPARED,
    COMPUTE,
    COUNTED_PHASES,
    CURVES,
    EFFECTS,
    GROWTH,
    HIGHER,
    LOWER,
    NEITHER,
    OVERVIEW,
    PHASES,
    RATIO,
    RUN,
    SHARE,
    TOTAL,
    VARIANTS,
    WHOLE,
    Entry,
    Metric,
)
from profiling.metrics.registry import (
    AT_READING,
    FLAG_COLUMNS,
    SOURCE_COLUMNS,
    SUMMARY_COLUMNS,
    TEXT_COLUMNS,
    WHOLE_COLUMNS,
    UndeclaredMetric,
    declare,
    expected,
    find,
    is_declared,
    list_given,
    list_shown,
)

__all__ = [
    "ANSWERS",
    "AT_READING",
    "COMPARED",
    "COMPUTE",
    "COUNTED_PHASES",
    "CURVES",
    "EFFECTS",
    "FLAG_COLUMNS",
    "GROWTH",
    "HIGHER",
    "LOWER",
    "NEITHER",
    "OVERVIEW",
    "PHASES",
    "RATIO",
    "RUN",
    "SHARE",
    "SOURCE_COLUMNS",
    "SUMMARY_COLUMNS",
    "TEXT_COLUMNS",
    "TOTAL",
    "VARIANTS",
    "WHOLE",
    "WHOLE_COLUMNS",
    "Entry",
    "Metric",
    "UndeclaredMetric",
    "declare",
    "expected",
    "find",
    "is_declared",
    "list_given",
    "list_shown",
    "quality",
]
