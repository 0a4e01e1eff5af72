"""One side of a comparison: a process that has a point loaded and runs a pass when asked to."""

from __future__ import annotations

from typing import Any

from profiling.runs.paired.requests import (
    Begin,
    Failure,
    Pass,
    Passed,
    Prepare,
    Prepared,
    Request,
    Weigh,
)
from profiling.runs.session import Plan
from profiling.runs.worker import Worker, WorkerDied


class SideFailed(RuntimeError):
    """A side that cannot be measured: its name, how it ended and why."""

    def __init__(self, *, side: str, status: str, error: str, traceback: str | None) -> None:
        super().__init__(error)
        self.side, self.status, self.error, self.traceback = side, status, error, traceback


class Side:
    """A fresh process for one of the two points."""

    def __init__(self, *, name: str, plan: Plan) -> None:
        self.name, self.plan = name, plan
        self._worker = Worker(threads=plan.point.threads)

    @property
    def pid(self) -> int:
        return self._worker.pid

    def weigh(self) -> int | None:
        """The bytes of weights that loading will take; None where nobody knows."""
        self._worker.ask(Weigh(point=self.plan.point))
        weight: int | None = self._await()
        return weight

    def start_loading(self) -> None:
        """Have the point loaded, while the other side does the same."""
        self._worker.ask(Prepare(point=self.plan.point, samples=self.plan.samples))

    def await_loaded(self) -> Prepared:
        prepared = self._await()
        assert isinstance(prepared, Prepared)
        return prepared

    def begin(self, position: int) -> None:
        self._ask(Begin(position=position))

    def run_pass(self) -> Passed:
        passed = self._ask(Pass())
        assert isinstance(passed, Passed)
        return passed

    def _ask(self, request: Request) -> Any:
        self._worker.ask(request)
        return self._await()

    def _await(self) -> Any:
        try:
            found = self._worker.answer()
        except WorkerDied as death:
            found = Failure(status=death.status, error=death.error, traceback=None)
        if isinstance(found, Failure):
            raise SideFailed(
                side=self.name, status=found.status, error=found.error, traceback=found.traceback
            )
        return found

    def close(self) -> None:
        self._worker.close()

    def kill(self) -> None:
        self._worker.kill()
