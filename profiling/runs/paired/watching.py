"""The noise gate around the passes of both sides, from the process that lets them alternate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from profiling.machine.noise import Board, NoiseGate, NoiseLimits
from profiling.machine.nvml import board_of
from profiling.runs.paired.requests import Prepared
from profiling.runs.paired.turns import Runner


@dataclass(frozen=True, kw_only=True)
class OwnBoard:
    """A GPU on which so many processes are this comparison's own."""

    board: Board
    own: int

    def read_clock_hz(self) -> float:
        return self.board.read_clock_hz()

    def find_throttling(self) -> tuple[str, ...]:
        return self.board.find_throttling()

    def count_processes(self) -> int:
        """As if both sides were one process."""
        return self.board.count_processes() - max(0, self.own - 1)


@dataclass(frozen=True, kw_only=True)
class Gates:
    """One gate for each GPU that is used, or a single one for the CPU."""

    gates: list[NoiseGate]

    @property
    def reason(self) -> str | None:
        found = dict.fromkeys(gate.reason for gate in self.gates if gate.reason)
        return "; ".join(found) or None


@contextmanager
def watch(
    runners: Mapping[str, Runner], prepared: Mapping[str, Prepared], *, limits: NoiseLimits
) -> Iterator[Gates]:
    pids = {runner.pid for runner in runners.values()}
    pids |= {pid for one in prepared.values() for pid in one.pids}
    on_cpu = all(one.on_cpu for one in prepared.values())
    uuids = [one.gpu_uuid for one in prepared.values() if one.gpu_uuid is not None]
    with ExitStack() as around:
        gates = []
        for uuid in dict.fromkeys(uuids) or [None]:
            board = around.enter_context(board_of(uuid))
            own = None if board is None else OwnBoard(board=board, own=uuids.count(str(uuid)))
            gate = NoiseGate(limits=limits, board=own, cpu_bound=on_cpu, pids=sorted(pids))
            gates.append(around.enter_context(gate))
        yield Gates(gates=gates)
