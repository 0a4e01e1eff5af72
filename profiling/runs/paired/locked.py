"""One comparison at a time: kept where there is one, and alone on its devices where it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from profiling.machine.locks import hold
from profiling.records import Comparison
from profiling.runs.paired.comparing import REAL, Comparer
from profiling.runs.paired.opposed import Opposed, find_kept
from profiling.runs.session import LOCKS, device_lock


def compare(opposed: Opposed, *, notify: Callable[[str], None]) -> tuple[Comparison, bool]:
    """The comparison, and whether it was there before; raises `SideFailed`."""
    kept = find_kept(opposed)
    if kept is not None:
        return kept, True
    with ExitStack() as around:
        for path, what in _locks(opposed).items():
            wait = _tell_wait(notify, what)
            around.enter_context(hold(path, on_wait=wait))
        # Another process may have measured it in the meantime.
        kept = find_kept(opposed)
        if kept is not None:
            return kept, True
        return Comparer(opposed, notify=notify, means=REAL).run(), False


def _locks(opposed: Opposed) -> dict[Path, str]:
    """In one order for every process, so that no two wait for each other."""
    locks = {opposed.results_dir / LOCKS / opposed.address: "another process compares these points"}
    if not opposed.a.point.share_device:
        devices = sorted({plan.point.device for plan in opposed.plans.values()})
        locks |= {device_lock(one): f"another run measures on {one}" for one in devices}
    return locks


def _tell_wait(notify: Callable[[str], None], what: str) -> Callable[[str], None]:
    return lambda holder: notify(f"waiting: {what} ({holder})")
