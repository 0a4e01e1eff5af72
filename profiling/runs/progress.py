"""Progress of a sweep: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

_WIDTH = 24


class Progress:
    """Points done and left, the present phase, and the time to go."""

    def __init__(self, *, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._signs = _find_signs(self._stream.encoding)
        self._done = 0
        self._durations_s: list[float] = []
        self._label = ""
        self._begun = 0.0

    def note(self, line: str) -> None:
        """A line that stays."""
        self._clear()
        print(line, file=self._stream, flush=True)

    def begin(self, label: str) -> None:
        self._label, self._begun = label, time.monotonic()

    def phase(self, phase: str) -> None:
        line = f"{self._place()} {self._label}: {phase}{self._to_go()}"
        if self._live:
            self._clear()
            self._stream.write(f"{self._bar()} {line}"[: self._columns() - 1])
            self._stream.flush()
        else:
            print(line, file=self._stream, flush=True)

    def end(self, outcome: str, *, measured: bool) -> None:
        """One point ended; only measured ones count for the time to go."""
        duration_s = time.monotonic() - self._begun
        place = self._place()
        self._done += 1
        if measured:
            self._durations_s.append(duration_s)
        took = f" in {show_duration(duration_s)}" if measured else ""
        self.note(f"{place} {self._label}: {outcome}{took}{self._to_go()}")

    def _place(self) -> str:
        return f"[{min(self._done + 1, self._total)}/{self._total}]"

    def _to_go(self) -> str:
        left = self._total - self._done
        if not self._durations_s or left <= 0:
            return ""
        mean_s = sum(self._durations_s) / len(self._durations_s)
        return f"; {left} left, about {show_duration(mean_s * left)} to go"

    def _bar(self) -> str:
        filled = _WIDTH * self._done // max(1, self._total)
        full, empty = self._signs
        return full * filled + empty * (_WIDTH - filled)

    def _columns(self) -> int:
        """A line that wraps cannot be cleared. Some terminals report a width of 0."""
        return os.get_terminal_size(self._stream.fileno()).columns or 80

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\033[2K")


def _find_signs(encoding: str | None) -> tuple[str, str]:
    """What a bar is made of; not every terminal has blocks."""
    try:
        "█·".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#", "."
    return "█", "·"


def show_duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
