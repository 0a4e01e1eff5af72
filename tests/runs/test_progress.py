"""What a person sees: plain lines in a log, one live line on a terminal, and a time to go."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from profiling.runs import progress
from profiling.runs.progress import Progress, show_duration


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def take(shown: Progress, clock: Clock, label: str, seconds: float, *, measured: bool) -> None:
    shown.begin(label)
    shown.phase("loading")
    clock.now_s += seconds
    shown.end("done", measured=measured)


def test_a_log_gets_plain_lines(clock: Clock) -> None:
    log = io.StringIO()
    shown = Progress(total=3, stream=log)
    take(shown, clock, "first", 20, measured=True)
    take(shown, clock, "second", 0.2, measured=False)
    take(shown, clock, "third", 40, measured=True)
    assert log.getvalue().splitlines() == [
        "[1/3] first: loading",
        "[1/3] first: done in 20 s; 2 left, about 40 s to go",
        "[2/3] second: loading; 2 left, about 40 s to go",
        "[2/3] second: done; 1 left, about 20 s to go",
        "[3/3] third: loading; 1 left, about 20 s to go",
        "[3/3] third: done in 40 s",
    ]


def test_points_that_were_kept_tell_nothing_of_the_time_to_go(clock: Clock) -> None:
    log = io.StringIO()
    shown = Progress(total=2, stream=log)
    take(shown, clock, "first", 0.01, measured=False)
    assert "to go" not in log.getvalue()


def test_more_points_than_were_announced_do_not_break_it(clock: Clock) -> None:
    log = io.StringIO()
    shown = Progress(total=1, stream=log)
    for label in ("first", "second"):
        take(shown, clock, label, 1, measured=True)
    assert log.getvalue().splitlines()[-1] == "[1/1] second: done in 1.0 s"


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        yield ours, stream
    os.close(ours)


def set_columns(descriptor: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def screen(descriptor: int) -> list[str]:
    """The lines that a terminal shows for what was written."""
    os.set_blocking(descriptor, False)
    written = b""
    with suppress(BlockingIOError):
        while True:
            written += os.read(descriptor, 4096)
    lines = [""]
    for part in written.decode().split("\r\033[2K"):
        lines[-1:] = part.split("\r\n")
    return lines


@pytest.mark.parametrize("columns", [0, 40, 300])
def test_a_terminal_shows_one_live_line_below_those_that_stay(
    columns: int, clock: Clock, terminal: tuple[int, TextIO]
) -> None:
    ours, stream = terminal
    set_columns(ours, columns)
    shown = Progress(total=4, stream=stream)
    take(shown, clock, "first", 60, measured=True)
    shown.begin("second " + "and so on " * 50)
    for phase in ("loading", "measuring latency"):
        shown.phase(phase)
    *staying, live = screen(ours)
    assert staying == ["[1/4] first: done in 1 min 0 s; 3 left, about 3 min 0 s to go"]
    assert live.startswith("██████··················"[: (columns or 80) - 1])
    assert len(live) < (columns or 80)
    if columns == 300:
        assert "[2/4] second and so on" in live


def test_a_terminal_without_blocks_gets_a_bar_of_other_signs(clock: Clock) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="ascii") as stream:
        set_columns(ours, 120)
        shown = Progress(total=2, stream=stream)
        take(shown, clock, "first", 1, measured=True)
        shown.begin("second")
        shown.phase("loading")
        assert screen(ours)[-1].startswith("############............ [2/2] second: loading")
    os.close(ours)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.25, "0.2 s"),
        (9.4, "9.4 s"),
        (10, "10 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.7, "1 h 0 min"),
        (3 * 3600 + 61, "3 h 1 min"),
        (200 * 3600, "200 h 0 min"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
