"""Which joules can be read for a device, and for those that cannot, the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from profiling.machine.clock import Time
from profiling.machine.nvml import (
    BOARD,
    NO_BOARD,
    Board,
    NoBoardEnergy,
    PowerIntegral,
    board_of,
    open_counter,
)
from profiling.machine.rapl import PACKAGE, POWERCAP, open_rapl
from profiling.probes.energy_window import Counter

NOT_THE_GPU = "the run is on the CPU: what a GPU draws meanwhile is not its energy"


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What can be read for one device: counters by component, and for the others why not."""

    headline: str
    counters: dict[str, Counter]
    missing: dict[str, str]
    time: Time
    find_throttling: Callable[[], tuple[str, ...]] = tuple

    def ordered(self) -> list[Counter]:
        """The headline's counter first."""
        return sorted(self.counters.values(), key=lambda c: c.component != self.headline)


@contextmanager
def open_instruments(gpu_uuid: str | None, *, power_sample_s: float) -> Iterator[Instruments]:
    """The counters that charge work on a GPU, or on the CPU where there is no UUID; real ones."""
    if gpu_uuid is None:
        yield cpu_instruments(POWERCAP, Time())
        return
    with board_of(gpu_uuid) as board:
        if board is None:
            yield Instruments(headline=BOARD, counters={}, missing={BOARD: NO_BOARD}, time=Time())
            return
        with gpu_instruments(
            board, power_sample_s=power_sample_s, powercap=POWERCAP, time=Time()
        ) as instruments:
            yield instruments


def cpu_instruments(powercap: Path, time: Time) -> Instruments:
    rapl = open_rapl(powercap)
    return Instruments(
        headline=PACKAGE,
        counters=dict(rapl.counters),
        missing={BOARD: NOT_THE_GPU, **rapl.missing},
        time=time,
    )


@contextmanager
def gpu_instruments(
    board: Board, *, power_sample_s: float, powercap: Path, time: Time
) -> Iterator[Instruments]:
    rapl = open_rapl(powercap)
    counters: dict[str, Counter] = dict(rapl.counters)
    missing = dict(rapl.missing)
    with ExitStack() as stack:
        try:
            counter = open_counter(board, sample_s=power_sample_s, time=time)
        except NoBoardEnergy as reason:
            missing[BOARD] = str(reason)
        else:
            counters[BOARD] = counter
            if isinstance(counter, PowerIntegral):
                stack.enter_context(counter.sampling())
        yield Instruments(
            headline=BOARD,
            counters=counters,
            missing=missing,
            find_throttling=board.find_throttling,
            time=time,
        )
