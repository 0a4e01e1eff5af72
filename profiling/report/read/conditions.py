"""What two runs differ in: settings, and everything else that their records know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from profiling.report.read.keys import PROFILER, list_differing, show_value
from profiling.report.read.runs import Run

# What tells one machine of a kind from another, and what changes from hour to hour.
_NOT_COMPARED = frozenset({"hostname", "uuid", "gpus", "boot_id", "uptime_s"})
_DIGESTS = {"code": "code that measures", "samples": "samples", "weights": "weights' content"}
# Digests that not every run has.
_FURTHER_DIGESTS = {"calibration": "samples of the calibration"}
_SHORT = 12


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something in which two runs differ, with both values as a person would write them."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} ({self.before}, {self.after})"


def list_conditions(before: Run, after: Run) -> list[Condition]:
    """Settings first, then the profiler's own, the code, package versions, and the machine."""
    return [
        *_compare_settings(before, after),
        *_compare("", *(_flatten(_profiler(run), f"{PROFILER}.") for run in (before, after))),
        *_compare_digests(before, after),
        *_compare("version of ", *(_mapping(run, "versions") for run in (before, after))),
        *_compare("machine's ", *(_machine(run) for run in (before, after))),
    ]


def list_unknown(before: Run, after: Run) -> list[str]:
    """What a record does not say, so that it may differ."""
    runs = (before, after)
    unknown = [
        words
        for name, words in _DIGESTS.items()
        if not all(_mapping(run, "digests").get(name) for run in runs)
    ]
    return unknown + [name for name in ("versions",) if not all(_mapping(r, name) for r in runs)]


def _compare_settings(before: Run, after: Run) -> Iterator[Condition]:
    for key in list_differing([before.settings, after.settings]):
        values = (show_value(run.setting(key)) for run in (before, after))
        yield Condition(name=key, before=next(values), after=next(values))


def _compare_digests(before: Run, after: Run) -> Iterator[Condition]:
    digests = [_mapping(run, "digests") for run in (before, after)]
    for name, words in {**_DIGESTS, **_FURTHER_DIGESTS}.items():
        values = [str(own.get(name) or "") for own in digests]
        if all(values) and values[0] != values[1]:
            yield Condition(name=words, before=values[0][:_SHORT], after=values[1][:_SHORT])


def _compare(
    prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Condition]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            shown = [show_value(side.get(name)) for side in (before, after)]
            yield Condition(name=f"{prefix}{name}", before=shown[0], after=shown[1])


def _mapping(run: Run, name: str) -> Mapping[str, Any]:
    found = run.record.run.get(name)
    return found if isinstance(found, Mapping) else {}


def _machine(run: Run) -> Mapping[str, Any]:
    return {k: v for k, v in _mapping(run, "machine").items() if k not in _NOT_COMPARED}


def _profiler(run: Run) -> Mapping[str, Any]:
    found = run.record.config.get(PROFILER)
    return found if isinstance(found, Mapping) else {}


def _flatten(value: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Each inner key with its path."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flatten(inner, f"{prefix}{key}.")
        elif f"{prefix}{key}" != f"{PROFILER}.name":
            found[f"{prefix}{key}"] = inner
    return found
