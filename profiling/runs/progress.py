"""Progress of a sweep: a live line below finished points on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_WIDTH = 24


class Progress:
    """Points done and left, the present phase, and the time to go."""

    def __init__(self, *, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._live = _LiveLine(self._stream, self._compose) if self._stream.isatty() else None
        self._signs = _find_signs(self._stream.encoding)
        self._done = 0
        self._durations_s: list[float] = []
        self._label = self._phase = ""
        self._begun = 0.0

    def note(self, line: str) -> None:
        """A line that stays."""
        if self._live:
            self._live.print_above(line)
        else:
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Take the live line away."""
        if self._live:
            self._live.stop()

    def begin(self, label: str) -> None:
        self._label, self._begun = label, time.monotonic()

    def phase(self, phase: str) -> None:
        self._phase = phase
        if self._live:
            self._live.show()
        else:
            line = f"{self._place()} {self._label}: {phase}{self._to_go()}"
            print(line, file=self._stream, flush=True)

    def end(self, outcome: str, *, measured: bool) -> None:
        """One point ended; only measured ones count for the time to go."""
        duration_s = time.monotonic() - self._begun
        place = self._place()
        self._done += 1
        if measured:
            self._durations_s.append(duration_s)
        took = f" in {show_duration(duration_s)}" if measured else ""
        line = f"{place} {self._label}: {outcome}{took}{self._to_go()}"
        self._label = self._phase = ""
        self.note(line)

    def _place(self) -> str:
        return f"[{min(self._done + 1, self._total)}/{self._total}]"

    def _to_go(self) -> str:
        left = self._total - self._done
        if not self._durations_s or left <= 0:
            return ""
        return f"; {left} left, about {show_duration(self._mean_s() * left)} to go"

    def _mean_s(self) -> float:
        return sum(self._durations_s) / len(self._durations_s)

    def _compose(self, columns: int) -> str:
        """The live line; where it is too narrow the label gives way first, then the phase."""
        elapsed_s = time.monotonic() - self._begun
        head, times = f"{self._bar()} {self._place()} ", f" {show_clock(elapsed_s)}"
        if self._durations_s:
            left_s = max(0.0, self._mean_s() * (self._total - self._done) - elapsed_s)
            times += f", {show_clock(left_s)} to go"
        room = columns - len(head) - len(times)
        label = _cut(self._label, room - len(self._phase) - 2)
        said = f"{label}: {self._phase}" if label else self._phase
        return (head + _cut(said, room) + times)[:columns]

    def _bar(self) -> str:
        filled = _WIDTH * self._done // max(1, self._total)
        full, empty = self._signs
        return full * filled + empty * (_WIDTH - filled)


class _LiveLine:
    """One line at the bottom of a terminal, drawn again each second while a point runs."""

    def __init__(self, stream: TextIO, compose: Callable[[int], str]) -> None:
        # Imported where there is a terminal; it takes a tenth of a second.
        from rich.console import Console

        self._stream, self._compose = stream, compose
        # Whatever the environment says of colours: it is one line of plain text.
        self._console = Console(
            file=stream, force_terminal=True, color_system=None, width=80, _environ={}
        )
        # A process that is killed could not show the cursor again.
        self._console.show_cursor = lambda show=True: False  # type: ignore[method-assign]
        self._live: Live | None = None

    def _render(self) -> Text:
        from rich.text import Text

        # A line that wraps cannot be cleared.
        return Text(self._compose(self._columns() - 1), no_wrap=True, overflow="crop")

    def _columns(self) -> int:
        """Some terminals report a width of 0, and a stream may be closed while a line is drawn."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def show(self) -> None:
        from rich.live import Live

        self._console.width = self._columns()
        if self._live:
            self._live.refresh()
            return
        self._live = Live(
            console=self._console,
            refresh_per_second=1,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._render,
        )
        self._live.start(refresh=True)

    def print_above(self, line: str) -> None:
        """A line that stays, and the live one again below it."""
        from rich.text import Text

        if self._live:
            self._console.print(Text(line), soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


def _cut(text: str, length: int) -> str:
    """The beginning of a text, with a sign that it goes on; nothing where there is no room."""
    if len(text) <= length:
        return text
    return f"{text[: length - 1]}~" if length > 3 else ""


def _find_signs(encoding: str | None) -> tuple[str, str]:
    """What a bar is made of; not every terminal has blocks."""
    try:
        "█·".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#", "."
    return "█", "·"


def show_clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show_duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
