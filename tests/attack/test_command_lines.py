"""Command lines from a grammar end with a status of the contract and without a traceback."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from profiling.runs import announcing
from tests.attack.grammar import make_lines
from tests.composing import PROJECT

LIMIT_S = 60
LIMIT_KIB = 2_000_000
SEED = 19
NEEDED = (
    "main",
    "hydra._internal.hydra",
    "hydra._internal.config_loader_impl",
    "hydra.core.override_parser.overrides_parser",
    "profiling.runs.sweep",
)


def perform(words: list[str], folder: Path) -> tuple[int, str, float, int]:
    """Status, errors, seconds and KiB of a command line, in a copy of this process.

    The copy begins with the memory of this process, in which other tests may have loaded models.
    """
    inherited = psutil.Process().memory_info().rss // 1024
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _become(words, folder, errors.fileno())
        _, status, used = os.wait4(pid, 0)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    added = max(0, used.ru_maxrss - inherited)
    return os.waitstatus_to_exitcode(status), text, time.monotonic() - began, added


def _become(words: list[str], folder: Path, errors: int) -> None:
    """The command itself; never returns. An alarm ends what hangs, by a signal."""
    import signal
    import traceback

    status = 1
    try:
        signal.alarm(LIMIT_S)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115
        os.chdir(folder)
        sys.argv = [str(PROJECT / "main.py"), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@pytest.fixture(autouse=True)
def without_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes a framework, and is tested by itself."""
    monkeypatch.setattr(announcing, "estimate", lambda plans: [{} for _ in plans])


def check(count: int, seed: int, folder: Path) -> None:
    for name in NEEDED:
        __import__(name)
    statuses: Counter[int] = Counter()
    wrong, longest, largest = [], 0.0, 0
    for words in make_lines(count=count, seed=seed):
        status, errors, took_s, memory = perform(words, folder)
        statuses[status] += 1
        longest, largest = max(longest, took_s), max(largest, memory)
        said = errors.strip()
        is_line = status != 2 or (said and "\n" not in said and len(said) < 5000)
        if status not in (0, 2) or "Traceback" in errors or not is_line:
            wrong.append((status, [word[:80] for word in words], said[-300:]))
    print(f"{count} lines: {dict(statuses)}, at most {longest:.1f} s and {largest / 1024:.0f} MiB")
    assert wrong == []
    assert largest < LIMIT_KIB


@pytest.mark.slow
def test_some_command_lines(tmp_path: Path) -> None:
    check(20, SEED, tmp_path)


@pytest.mark.slow
def test_five_hundred_command_lines(tmp_path: Path) -> None:
    check(500, SEED + 1, tmp_path)
