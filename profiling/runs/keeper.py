"""Keeps a worker as long as the next point needs the model that it has loaded."""

from __future__ import annotations

from collections.abc import Callable

from profiling.records import COMPLETED
from profiling.runs.job import Job, Outcome
from profiling.runs.worker import Worker


class WorkerKeeper:
    """One worker at a time, replaced where a point needs another model."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._key: str | None = None
        self.num_loaded = 0

    def run(self, job: Job, on_event: Callable[[str], None]) -> Outcome:
        key = job.point.load_key
        if self._worker is None or not self._worker.is_alive or self._key != key:
            self.close()
            self._worker = Worker(threads=job.point.threads)
            self._key = key
        try:
            outcome = self._worker.run(job, on_event)
        except BaseException:
            # The worker is still busy, and would answer the next job with this one's outcome.
            self.kill()
            raise
        self.num_loaded += outcome.loaded
        if outcome.status != COMPLETED:
            # A process in which something failed may be damaged.
            self.close()
        return outcome

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker, self._key = None, None

    def stop(self) -> None:
        """Kill the process alone: the run that waits for it takes its death as an outcome."""
        if self._worker is not None:
            self._worker.stop()

    def kill(self) -> None:
        if self._worker is not None:
            self._worker.kill()
        self._worker, self._key = None, None
