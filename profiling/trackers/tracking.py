"""Shows finished records in a tracker; an error there is one line and loses no record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from profiling.machine.locks import hold, user_lock
from profiling.records import Record, read_record
from profiling.trackers.none import NoTracker
from profiling.trackers.tracker import Drawing, Tracker, describe

_AGAIN = "the record is kept; the same command shows it"
_LONGEST = 300


class Tracking:
    """One tracker with its settings, opened for the first record."""

    def __init__(self, settings: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._settings = settings
        self._note = note
        self._tracker: Tracker | None = None

    def show(self, folder: Path) -> None:
        """Show the record of a folder unless it was shown before."""
        try:
            self._show(folder)
        except ModuleNotFoundError as error:
            self._complain(f"{error}; pip install -r requirements-trackers.txt; {_AGAIN}")
            self._tracker = NoTracker()
        # A library may raise any exception when its server or disk fails.
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
            self._complain(f"{folder} is not shown: {text}; {_AGAIN}")

    def _complain(self, what: str) -> None:
        self._note(f"tracker={self._settings['name']}: {what}")

    def _complain_of_waiting(self, holder: str) -> None:
        self._complain(f"waiting for another command that shows records there ({holder})")

    def _show(self, folder: Path) -> None:
        if self._settings["name"] == "none":
            return
        # One process at a time creates a database and writes to it.
        with hold(user_lock("tracker"), on_wait=self._complain_of_waiting):
            self._show_in_turn(folder)

    def _show_in_turn(self, folder: Path) -> None:
        tracker = self._open()
        if isinstance(tracker, NoTracker):
            return
        record = read_record(folder)
        entry = describe(record)
        if not tracker.has(entry):
            with tempfile.TemporaryDirectory() as drawn:
                tracker.add(entry, _draw(record, Path(drawn)))

    def _open(self) -> Tracker:
        if self._tracker is None:
            values = dict(self._settings)
            module = import_module(f"profiling.trackers.{values.pop('name')}")
            opened: Tracker = module.TRACKER(**values)
            self._tracker = opened
        return self._tracker


def _draw(record: Record, folder: Path) -> list[Drawing]:
    # Drawing costs half a second to import, which only those who track should pay.
    from profiling.report.draw.record_figures import draw_record

    return [Drawing(name=path.stem, png=path) for path in draw_record(record, folder)]
