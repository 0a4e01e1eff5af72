"""The process that measures: it keeps one loaded model and runs the jobs that need it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from profiling.engines.engine import find_engine
from profiling.points.point import Point
from profiling.records import COMPLETED, FAILED
from profiling.runs.failures import classify, describe_problem
from profiling.runs.job import Job, Note
from profiling.runs.recording import record, record_without_findings

if TYPE_CHECKING:
    from profiling.runs.experiment import Findings, Loaded

_PR_SET_PDEATHSIG = 1

# Status, error and summary of a job that ended.
Ending = tuple[str, str | None, dict[str, Any]]


class Child:
    """Takes jobs from the parent, one after another, and sends back how each of them ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded: Loaded | None = None

    def serve(self) -> None:
        logging.getLogger("profiling").addHandler(_Forwarding(self._connection))
        while True:
            try:
                job = self._connection.recv()
            except EOFError:
                self._let_go()
                return
            was_loaded = self._loaded is not None
            status, error, summary = self._perform(job)
            outcome = {
                "status": status,
                "error": error,
                "loaded": self._loaded is not None and not was_loaded,
                "summary": summary,
            }
            self._connection.send(("outcome", outcome))

    def _let_go(self) -> None:
        if self._loaded is not None:
            self._loaded.engine.close()

    def _notify(self, phase: str) -> None:
        self._connection.send(("phase", phase))

    def _perform(self, job: Job) -> Ending:
        self._notify("starting")
        # Imported after the parent was told: a framework takes seconds to import.
        from profiling.runs import experiment

        try:
            if self._loaded is None:
                self._notify("loading")
                self._loaded = experiment.load(job.point)
            found = experiment.measure(job.point, job.samples, self._loaded, self._notify)
            return self._keep(job, found)
        except Exception as problem:
            return self._fail(job, problem, classify(problem, _memory_judge(job.point)))

    def _keep(self, job: Job, found: Findings) -> Ending:
        if found.noise and job.point.strict:
            error = f"refused because strict=true and the machine was busy: {found.noise}"
            return FAILED, error, record_without_findings(job, status=FAILED, error=error)
        summary = record(
            job,
            status=COMPLETED,
            error=None,
            dtype=found.dtype,
            computes_in=found.computes_in,
            readings=found.readings,
            answers=found.answers,
            noise=found.noise,
        )
        return COMPLETED, None, summary

    def _fail(self, job: Job, problem: Exception, status: str) -> Ending:
        error = describe_problem(problem)
        summary = record_without_findings(job, status=status, error=error)
        if status == FAILED:
            text = "".join(traceback.format_exception(problem))
            (job.folder / "traceback.txt").write_text(text, encoding="utf-8")
        return status, error, summary


class _Forwarding(logging.Handler):
    """Sends what the rooms warn of, such as a damaged cache, to the terminal of the parent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(level=logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(("note", Note(record.getMessage())))


def _memory_judge(point: Point) -> Callable[[Exception], bool]:
    """What tells whether an exception means that memory ran out; the engine knows its libraries."""
    try:
        return find_engine(point).is_out_of_memory
    except ImportError:
        return lambda _: False


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the parent ends, however it ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Child(Connection(descriptor)).serve()
    # Skips the exit handlers of libraries, which can take seconds.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
