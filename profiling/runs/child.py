"""The process that measures: it keeps one loaded model and runs the jobs that need it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from profiling.records import COMPLETED, FAILED
from profiling.runs.failures import classify, describe_problem, judge_memory
from profiling.runs.job import Job, Note
from profiling.runs.recording import record, record_without_findings

if TYPE_CHECKING:
    from profiling.runs.experiment import Findings, Loaded
    from profiling.runs.paired.passes import PassServer
    from profiling.runs.paired.requests import Request

_PR_SET_PDEATHSIG = 1

# Status, error and summary of a job that ended.
Ending = tuple[str, str | None, dict[str, Any]]


class Child:
    """Takes jobs from the parent, one after another, and sends back how each of them ended.

    Requests for single passes of a point are answered in the same way.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded: Loaded | None = None
        self._passes: PassServer | None = None

    def serve(self) -> None:
        logging.getLogger("profiling").addHandler(_Forwarding(self._connection))
        while True:
            try:
                asked = self._connection.recv()
            except EOFError:
                self._let_go()
                return
            if isinstance(asked, Job):
                self._connection.send(("outcome", self._run(asked)))
            else:
                self._connection.send(("answer", self._answer(asked)))

    def _run(self, job: Job) -> dict[str, Any]:
        was_loaded = self._loaded is not None
        status, error, summary = self._perform(job)
        return {
            "status": status,
            "error": error,
            "loaded": self._loaded is not None and not was_loaded,
            "summary": summary,
        }

    def _answer(self, request: Request) -> Any:
        if self._passes is None:
            from profiling.runs.paired.passes import PassServer

            self._passes = PassServer()
        return self._passes.answer(request)

    def _let_go(self) -> None:
        if self._loaded is not None:
            self._loaded.engine.close()
        if self._passes is not None:
            self._passes.close()

    def _notify(self, phase: str) -> None:
        self._connection.send(("phase", phase))

    def _perform(self, job: Job) -> Ending:
        self._notify("starting")
        # Imported after the parent was told: a framework takes seconds to import.
        from profiling.runs import experiment

        try:
            experiment.check_samples(job.point, job.samples)
            if self._loaded is None:
                self._notify("loading")
                self._loaded = experiment.load(job.point)
            found = experiment.measure(job.point, job.samples, self._loaded, self._notify)
            return self._keep(job, found)
        except Exception as problem:
            return self._fail(job, problem, classify(problem, judge_memory(job.point)))

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
            trace=found.trace,
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
