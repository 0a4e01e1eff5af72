"""What only a GPU can show of the instruments: its clock, its joules, its memory, its peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from profiling.machine.clock import Time
from profiling.machine.machine import gpu_uuid, why_no_joules
from profiling.machine.nvml import NO_BOARD, Board, EnergyCounter, PowerIntegral, board_of
from profiling.machine.torch_device import synchronize
from profiling.selfcheck import machine, memory
from profiling.selfcheck.finding import Check, Finding, cannot, compare, perform

# Boards state 5% for their power; the counter and the samples have different parts of it.
JOULES_TOLERANCE = 0.10
MEMORY_TOLERANCE = 0.05
_JOULES = "joules: counter by integrated power"
_MEMORY = "memory: the allocator's bytes by NVML"
Sampling = Callable[[PowerIntegral], AbstractContextManager[Any]]


def check_all(
    device: str, settings: Mapping[str, Any], profiler: Mapping[str, Any]
) -> Iterator[Finding]:
    """Every check of the instruments on the device, in a process that may use it."""
    dtype = torch.bfloat16
    checks: dict[str, Check] = {
        "events": partial(machine.check_event_clock, device, seconds=settings["clock_s"]),
        "joules": partial(check_joules, device, settings),
        "memory": partial(memory.check_on_gpu, device, profiler["probes"]["memory"]),
        "memory by NVML": partial(check_memory, device, settings["block_bytes"]),
        "noise": partial(machine.check_noise, device, profiler["noise"], seconds=1.0),
        "peaks": partial(machine.check_peaks, device, dtype, profiler["roofline"]),
    }
    for name, check in checks.items():
        yield from perform(name, check)


# Joules


def check_joules(device: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A load on the GPU, whose joules the counter and the integrated power both give."""
    reason = why_no_joules(device)
    with board_of(gpu_uuid(device)) as board:
        if board is None or reason is not None:
            yield cannot(_JOULES, expected="the same", why=reason or NO_BOARD)
            return
        yield compare_joules(
            board,
            load_of(torch.device(device)),
            settings=settings,
            time=Time(),
            sampling=PowerIntegral.sampling,
        )


def load_of(device: torch.device) -> Callable[[], None]:
    """Products that keep a GPU busy for some milliseconds."""
    left = torch.randn(4096, 4096, device=device, dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(8):
            left @ left
        synchronize(device)

    return work


def compare_joules(
    board: Board,
    work: Callable[[], None],
    *,
    settings: Mapping[str, Any],
    time: Time,
    sampling: Sampling,
) -> Finding:
    """The counter over a steady load by the power sampled meanwhile."""
    if board.is_shared():
        why = "the board is split into instances (MIG) and counts energy for all of them together"
        return cannot(_JOULES, expected="the same", why=why)
    sample_s, seconds = settings["power_sample_s"], settings["joules_s"]
    try:
        counter = EnergyCounter(board=board)
        counter.read_j()
        power = PowerIntegral(
            read_w=board.read_power_w, name=board.name, sample_s=sample_s, time=time
        )
    except Exception as problem:  # whatever an instrument that is not there raises
        why = " ".join(f"{type(problem).__name__}: {problem}".split())
        return cannot(_JOULES, expected="the same", why=why)
    with sampling(power):
        _repeat(work, settings["rise_s"], time)
        counted_j, integrated_j = counter.read_j(), power.read_j()
        _repeat(work, seconds, time)
        counted_j, integrated_j = counter.read_j() - counted_j, power.read_j() - integrated_j
    return compare(
        _JOULES,
        expected=integrated_j,
        found=counted_j,
        unit="J",
        tolerance=JOULES_TOLERANCE,
    )


def _repeat(work: Callable[[], None], seconds: float, time: Time) -> None:
    until_s = time.now_s() + seconds
    while time.now_s() < until_s:
        work()


# Memory


def check_memory(device: str, block_bytes: int) -> Iterator[Finding]:
    """What torch says it holds more, and what the board has less free."""
    with board_of(gpu_uuid(device)) as board:
        if board is None:
            yield cannot(_MEMORY, expected="the same", why=why_no_joules(device) or NO_BOARD)
            return
        yield compare_memory(board, torch.cuda, torch.device(device), block_bytes)


def compare_memory(board: Board, cuda: Any, device: torch.device, block_bytes: int) -> Finding:
    cuda.empty_cache()
    used, held = board.read_used_bytes(), cuda.memory_reserved(device)
    block = torch.ones(block_bytes, dtype=torch.uint8, device=device)
    cuda.synchronize(device)
    used, held = board.read_used_bytes() - used, cuda.memory_reserved(device) - held
    del block
    return compare(_MEMORY, expected=held, found=used, unit="B", tolerance=MEMORY_TOLERANCE)
