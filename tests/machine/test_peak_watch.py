"""The highest resident memory while something runs, against blocks of known size."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.machine.peak_watch import KERNEL, PeakWatch
from profiling.machine.resident import (
    SELF,
    give_back_freed_memory,
    read_high_water_bytes,
    read_resident_bytes,
    reset_high_water_mark,
)

MEBIBYTE = 2**20
BIG = 96 * MEBIBYTE
# Pages of the interpreter come and go beside the known block.
SLACK = 8 * MEBIBYTE


def fill(size: int) -> None:
    """Take so many bytes, touch every page, give them back."""
    torch.ones(size, dtype=torch.uint8)


def test_an_earlier_peak_does_not_count() -> None:
    fill(3 * BIG)
    with PeakWatch(sample_interval_s=0.005) as watch:
        fill(BIG)
    assert watch.source == KERNEL
    assert watch.peak_bytes - watch.before_bytes < BIG + SLACK


def take_small_blocks() -> bytearray:
    """Blocks small enough for the heap, and one behind them that keeps it from shrinking."""
    blocks = [bytearray(60_000) for _ in range(1500)]
    last = bytearray(60_000)
    del blocks
    return last


def test_equal_runs_show_equal_deltas() -> None:
    # The first one takes the holes that earlier tests left in the heap, which are resident already.
    deltas, kept = [], [take_small_blocks()]
    for _ in range(3):
        with PeakWatch(sample_interval_s=0.01) as watch:
            kept.append(take_small_blocks())
        deltas.append(watch.peak_bytes - watch.before_bytes)
    assert deltas == pytest.approx([1500 * 60_000] * 3, abs=SLACK)


def test_a_peak_that_was_not_reset_would_be_seen() -> None:
    give_back_freed_memory()
    reset_high_water_mark(SELF)
    before = read_resident_bytes(SELF)
    fill(BIG)
    assert read_high_water_bytes(SELF) - before > BIG - SLACK
    assert reset_high_water_mark(SELF)
    assert read_high_water_bytes(SELF) - before < SLACK


@pytest.fixture
def still_proc(tmp_path: Path) -> Path:
    """A process folder whose kernel has no mark that could be reset."""
    (tmp_path / "statm").write_text("1000 500 0 0 0 0 0")
    (tmp_path / "clear_refs").mkdir()
    return tmp_path


def test_without_the_kernels_mark_the_sampler_takes_over(still_proc: Path) -> None:
    page = read_resident_bytes(still_proc) // 500
    with PeakWatch(sample_interval_s=0.001, proc=still_proc) as watch:
        (still_proc / "statm.new").write_text("1000 900 0 0 0 0 0")
        (still_proc / "statm.new").replace(still_proc / "statm")
        wait_for(lambda: watch.sampled_peak_bytes == 900 * page)
        (still_proc / "statm.new").write_text("1000 600 0 0 0 0 0")
        (still_proc / "statm.new").replace(still_proc / "statm")
    assert watch.before_bytes == 500 * page
    assert watch.peak_bytes == 900 * page
    assert "cannot be reset here" in watch.source


def test_a_system_that_is_not_linux_is_asked_by_psutil(tmp_path: Path) -> None:
    assert read_resident_bytes(tmp_path) == pytest.approx(read_resident_bytes(SELF), abs=SLACK)


def wait_for(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come true")


def test_the_sampler_ends_with_the_watch() -> None:
    with pytest.raises(KeyError), PeakWatch(sample_interval_s=0.001):
        raise KeyError("work went wrong")
    assert not [thread for thread in threading.enumerate() if thread.name == "memory sampler"]


def test_a_process_that_has_ended_does_not_hold_what_this_one_holds() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert read_resident_bytes(Path("/proc") / str(process.pid)) == 0


def test_an_error_in_the_thread_is_raised_where_the_peak_is_read(still_proc: Path) -> None:
    watch = PeakWatch(sample_interval_s=0.001, proc=still_proc)
    with pytest.raises(ValueError, match="torn"), watch:
        (still_proc / "statm.new").write_text("1000 torn 0 0 0 0 0")
        (still_proc / "statm.new").replace(still_proc / "statm")
        wait_for(lambda: watch._sampler._failure is not None)
