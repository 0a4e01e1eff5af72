"""The noise gate around two sides: whose processes are counted as others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.machine.noise import NoiseLimits
from profiling.runs.paired import watching
from profiling.runs.paired.requests import Prepared
from tests.composing import compose_point


class FakeBoard:
    """A GPU on which so many processes run."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def read_clock_hz(self) -> float:
        return 1e9

    def find_throttling(self) -> tuple[str, ...]:
        return ()

    def count_processes(self) -> int:
        return self._processes


def prepare(gpu: str | None) -> Prepared:
    return Prepared(
        pids=(os.getpid(),), gpu_uuid=gpu, on_cpu=gpu is None, num_batches=1, load_s=0.0
    )


def watch(boards: dict[str, FakeBoard], *gpus: str | None) -> watching.Gates:
    limits = NoiseLimits(**compose_point().profiler["noise"])
    sides = dict(zip("ab", gpus, strict=False))
    runners: Any = {name: SimpleNamespace(pid=os.getpid()) for name in sides}
    prepared = {name: prepare(gpu) for name, gpu in sides.items()}

    @contextmanager
    def board_of(uuid: str | None) -> Iterator[FakeBoard | None]:
        yield None if uuid is None else boards[uuid]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "board_of", board_of)
        with watching.watch(runners, prepared, limits=limits) as gates:
            pass
    return gates


def test_the_two_processes_of_a_comparison_are_no_noise() -> None:
    both = watch({"x": FakeBoard(2)}, "x", "x")
    assert "processes on the GPU" not in (both.reason or "")
    assert "2 processes on the GPU" in (watch({"x": FakeBoard(3)}, "x", "x").reason or "")
    assert "2 processes on the GPU" in (watch({"x": FakeBoard(2)}, "x").reason or "")


def test_every_gpu_is_watched() -> None:
    gates = watch({"x": FakeBoard(1), "y": FakeBoard(4)}, "x", "y")
    assert len(gates.gates) == 2 and "4 processes on the GPU" in (gates.reason or "")
    assert len(watch({}, None, None).gates) == 1
