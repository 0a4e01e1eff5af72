"""Runs a point or a sweep: every point is checked before the first one runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from profiling.arguments import ending_quietly, refuse
from profiling.errors import ConfigError
from profiling.points.configuration import read_config
from profiling.points.overrides import explain
from profiling.points.point import order_for_loading
from profiling.records import FAILED
from profiling.runs.announcing import announce, conclude, list_points
from profiling.runs.job import Outcome
from profiling.runs.launching import count_broken, enter_launched_process, launch
from profiling.runs.paired.baselines import PairedRuns, list_comparisons, oppose
from profiling.runs.paired.opposed import Opposed
from profiling.runs.progress import Progress
from profiling.runs.session import Plan, Session, plan_point

INTERRUPTED = 130


@dataclass(kw_only=True)
class _Sweep:
    """What the jobs of one sweep share when they run in this process."""

    session: Session | None = None


_current = _Sweep()


def run_sweep(
    jobs: Sequence[Sequence[str]],
    configs: Sequence[Mapping[str, Any]],
    launcher: Launcher,
) -> int:
    """Run all points of a sweep, those of one model together; return the exit status."""
    plans = [plan_point(config) for config in configs]
    order = order_for_loading([plan.point for plan in plans])
    ordered = [plans[i] for i in order]
    opposed = oppose(ordered)
    announce(ordered)
    if plans[0].point.dry:
        list_points(ordered)
        _list(opposed)
        return 0
    with _session(total=len(jobs)) as session:
        arranged = [jobs[i] for i in order]
        # Compared by name: Hydra imports its plugins a second time, so the class is another one.
        if type(launcher).__name__ == "BasicLauncher":
            count_broken(session, launcher.launch(arranged, initial_job_idx=0))
            totals = session.totals()
            compared = _compare(opposed, session)
        else:
            # Each job compares the point that it has measured.
            launch(arranged, ordered, launcher, session)
            totals = session.counts()
            compared = None
    conclude(ordered, totals=totals, compared=compared)
    return session.exit_status(single=False) or _failed(compared)


def _list(opposed: Sequence[Opposed]) -> None:
    for line in list_comparisons(opposed):
        print(line)


def _compare(
    opposed: Sequence[Opposed], session: Session, stream: TextIO | None = None
) -> PairedRuns | None:
    """The comparisons of points that were measured; None where none was asked for."""
    if not opposed:
        return None
    # A model that waits for further points would take memory from the two that are compared.
    session.close()
    runs = PairedRuns(progress=Progress(total=len(opposed), stream=stream))
    runs.run(opposed, session.status_of)
    return runs


def _failed(compared: PairedRuns | None) -> int:
    return int(compared is not None and compared.has_failed)


def run_job(config: DictConfig) -> str:
    """What Hydra calls for each point; the job returns the point's status."""
    elsewhere = _current.session is None and _is_sweep()
    if elsewhere:
        enter_launched_process()
    try:
        plan = plan_point(read_config(config))
    except (ConfigError, OmegaConfBaseException) as error:
        if elsewhere:
            # Launchers report an exception of a job; most of them lose an exit.
            raise
        # Hydra would add lines of its own to an exception.
        refuse(error if isinstance(error, ConfigError) else explain(error))
    if _current.session is not None:
        return _current.session.run(plan).status
    # Hydra would add a line of its own to this exception too.
    with ending_quietly():
        return _run_alone(plan, in_sweep=elsewhere)


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _run_alone(plan: Plan, *, in_sweep: bool) -> str:
    dry, opposed = plan.point.dry, oppose([plan])
    if in_sweep and not dry:
        with _session(total=1) as session:
            status = session.run(plan).status
            return FAILED if _failed(_compare(opposed, session)) else status
    announce([plan])
    if dry:
        list_points([plan])
        _list(opposed)
        raise SystemExit(0)
    with _session(total=1) as session:
        session.run(plan)
        compared = _compare(opposed, session)
    conclude([plan], totals=session.totals(), compared=compared)
    raise SystemExit(session.exit_status(single=True) or _failed(compared))


def run_plans(plans: Sequence[Plan], stream: TextIO) -> dict[str, Outcome]:
    """Run checked points in this process, those of one model together; how each ended.

    Progress is told on `stream`. Raises `KeyboardInterrupt` where it is interrupted.
    """
    ordered = [plans[i] for i in order_for_loading([plan.point for plan in plans])]
    opposed = oppose(ordered)
    try:
        with _session(total=len(ordered), stream=stream) as session:
            outcomes = {plan.fingerprint: session.run(plan) for plan in ordered}
            _compare(opposed, session, stream)
    except SystemExit:
        raise KeyboardInterrupt from None
    return outcomes


@contextmanager
def _session(*, total: int, stream: TextIO | None = None) -> Iterator[Session]:
    """A session that leaves no process and no torn file behind when it is interrupted."""
    session = Session(total=total, stream=stream)
    _current.session = session
    try:
        with interruptible():
            yield session
        session.close()
    except KeyboardInterrupt:
        session.abandon()
        session.progress.note(
            f"interrupted after {len(session.statuses)} of {total} points;"
            " the same command goes on from here"
        )
        raise SystemExit(INTERRUPTED) from None
    finally:
        session.abandon()
        _current.session = None


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM as ^C. Only the main thread may set this, and some launchers use others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
