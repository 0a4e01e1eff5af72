"""Two checked points that are to be compared, and where their comparison goes."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from profiling.errors import ConfigError
from profiling.points.address import canonical_json, digest_comparing_code, to_json
from profiling.points.key import declarations
from profiling.records import (
    COMPARISON_FILE,
    COMPARISONS,
    BrokenRecord,
    Comparison,
    read_comparison,
)
from profiling.runs.session import Plan
from profiling.statistics.launches import Launches
from profiling.statistics.ratios import LEAST_LAUNCHES


@dataclass(frozen=True, kw_only=True)
class Opposed:
    """Two checked points that are to be compared, and how long."""

    a: Plan
    b: Plan
    # The least number of launches or, where it is fixed, the number.
    launches: int
    is_fixed: bool

    @property
    def plans(self) -> Mapping[str, Plan]:
        return {"a": self.a, "b": self.b}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how long is measured."""
        chosen = self.a.point.comparison
        return {**chosen, "launches": self.launches, "is_fixed": self.is_fixed}

    @cached_property
    def address(self) -> str:
        facts = {
            "a": self.a.fingerprint,
            "b": self.b.fingerprint,
            "settings": self.settings,
            "code": digest_comparing_code(),
        }
        return hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:16]

    @property
    def results_dir(self) -> Path:
        return Path(self.a.point.results_dir)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """A short name of each side, with all that it does not share with the other."""
        a, b = (plan.point.as_config() for plan in (self.a, self.b))
        return {
            "a": _name_side(self.a.point.label(), _flatten(a), _flatten(b)),
            "b": _name_side(self.b.point.label(), _flatten(b), _flatten(a)),
        }

    def label(self) -> str:
        return " against ".join(self.labels.values())

    def rule(self) -> Launches:
        """Fewer launches than an interval needs are measured only where their number is fixed."""
        chosen = self.a.point.comparison
        return Launches(
            relative_target=chosen["relative_target"],
            time_budget_s=math.inf if self.is_fixed else chosen["time_budget_s"],
            first=self.launches if self.is_fixed else self._least(),
            maximum=self.launches if self.is_fixed else self._most(),
        )

    def _least(self) -> int:
        return max(self.launches, LEAST_LAUNCHES)

    def _most(self) -> int:
        return max(self._least(), int(self.a.point.comparison["most_launches"]))


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        inner = isinstance(value, Mapping)
        flat |= _flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _name_side(label: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    shown = label.split()
    different = [
        f"{key}={value}"
        for key, value in own.items()
        if key in other and other[key] != value and str(value) not in shown
    ]
    return " ".join([label, *(one for one in different if one not in shown)])


def require_shared(a: Plan, b: Plan) -> None:
    """Refuse keys of the comparison that its sides give differently: one value would be ignored."""
    for field, declared in declarations(a.point):
        values = [getattr(plan.point, field.name) for plan in (a, b)]
        if field.compare or values[0] == values[1]:
            continue
        flat = [_flatten({declared.name: to_json(value)}) for value in values]
        key = next(one for one in flat[1] if flat[0].get(one) != flat[1][one])
        reason = f"the other side has {flat[1][key]}; one value holds for both: type it behind them"
        raise ConfigError(key, flat[0][key], reason)


def find_kept(opposed: Opposed) -> Comparison | None:
    """The comparison that makes measuring again unnecessary."""
    if not opposed.a.point.resume:
        return None
    for folder in _folders(opposed):
        if not folder.is_dir():
            return None
        try:
            return read_comparison(folder)
        except BrokenRecord:
            continue
    return None


def _folders(opposed: Opposed) -> Iterator[Path]:
    folder = opposed.results_dir / COMPARISONS / opposed.address
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))


def find_folder(opposed: Opposed) -> Path:
    """Where the next comparison goes: with `resume=false` beside those that are complete."""
    if opposed.a.point.resume:
        return next(_folders(opposed))
    folder = next(one for one in _folders(opposed) if not (one / COMPARISON_FILE).exists())
    shutil.rmtree(folder, ignore_errors=True)
    return folder
