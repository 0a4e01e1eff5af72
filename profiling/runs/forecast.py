"""How long points will take, from the records of similar points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from profiling.points.point import DEFAULT_ENGINE, Point
from profiling.records import COMPLETED, Record, read


class Forecast:
    """Durations of the completed runs below some results folders."""

    def __init__(self, results_dirs: Iterable[Path]) -> None:
        self._took_s: dict[tuple[object, ...], list[float]] = {}
        for folder in results_dirs:
            for record in read(folder).records:
                if record.status == COMPLETED:
                    self._remember(record)

    def _remember(self, record: Record) -> None:
        took_s = _duration_s(record.run)
        if took_s is None:
            return
        summary, profiler = record.summary, record.config.get("profiler")
        exact = (
            profiler.get("name") if isinstance(profiler, Mapping) else None,
            summary.get("engine") or DEFAULT_ENGINE,
            summary.get("weights"),
            summary.get("model"),
            summary.get("optimization"),
        )
        # Another version, or another program, may have written a record that lacks one of them.
        if all(isinstance(value, str) for value in exact):
            for key in _by_similarity(*exact):
                self._took_s.setdefault(key, []).append(took_s)

    def expect_s(self, point: Point) -> float | None:
        """The median of the most similar points; None where no point is similar."""
        keys = _by_similarity(
            point.profiler["name"],
            point.engine,
            point.weights,
            point.model,
            "+".join(point.optimization),
        )
        for key in keys:
            if key in self._took_s:
                return median(self._took_s[key])
        return None

    def expect_all_s(self, points: Iterable[Point]) -> float | None:
        each = [self.expect_s(point) for point in points]
        known = [took_s for took_s in each if took_s is not None]
        return sum(known) + median(known) * (len(each) - len(known)) if known else None


def _by_similarity(*exact: object) -> list[tuple[object, ...]]:
    """Keys of decreasing similarity: equal in all five values, or in the first four or three."""
    return [exact[:length] for length in (5, 4, 3)]


def _duration_s(run: Mapping[str, Any]) -> float | None:
    try:
        begun, ended = (datetime.fromisoformat(run[key]) for key in ("started_at", "finished_at"))
        return (ended - begun).total_seconds()
    except (KeyError, TypeError, ValueError):  # also of one time with a zone and one without
        return None
