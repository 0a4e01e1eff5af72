"""The parent's handle on the process that measures: a worker that dies is an outcome too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import IO, Any

from profiling import import_path
from profiling.machine.gpus import order_as_listed
from profiling.machine.machine import oom_kill_count, tell_oom_kill
from profiling.records import FAILED, OUT_OF_MEMORY
from profiling.runs.job import Job, Outcome
from profiling.runs.recording import record_without_findings

_CHILD = (sys.executable, "-m", "profiling.runs.child")
_LAST_WORDS = 300


class WorkerDied(RuntimeError):
    """The process ended before it answered."""

    def __init__(self, *, status: str, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


class Worker:
    """A child process that keeps one loaded model. The parent sleeps until it has news."""

    def __init__(self, *, threads: int) -> None:
        self._connection, theirs = Pipe()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(
            [*_CHILD, str(descriptor), str(os.getpid())],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(threads),
            start_new_session=True,
        )
        theirs.close()
        self._kills_before: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Job, on_event: Callable[[str], None]) -> Outcome:
        """Run a job to its end; the death of the worker is an outcome too."""
        self.ask(job)
        try:
            return Outcome(**self._await("outcome", on_event))
        except WorkerDied as death:
            summary = record_without_findings(job, status=death.status, error=death.error)
            return Outcome(status=death.status, error=death.error, loaded=False, summary=summary)

    def ask(self, request: object) -> None:
        """Send a request; `answer` waits for what becomes of it."""
        self._kills_before = oom_kill_count()
        # A process that died has its answer in how it ended.
        with suppress(OSError):
            self._connection.send(request)

    def answer(self) -> Any:
        """The answer to the request that was sent; the parent sleeps until it comes."""
        return self._await("answer", lambda _: None)

    def _await(self, wanted: str, on_event: Callable[[str], None]) -> Any:
        for kind, news in self._listen():
            if kind == wanted:
                return news
            on_event(news)
        raise self._explain_death()

    def _listen(self) -> Iterator[tuple[str, Any]]:
        """What the child sends until it dies, which may be amid a message."""
        try:
            while True:
                yield self._connection.recv()
        except (EOFError, OSError):
            return

    def close(self) -> None:
        """Let the child end by itself, and kill it where it does not."""
        self._connection.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def stop(self) -> None:
        """Kill the process while another thread waits for what it sends."""
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def _explain_death(self) -> WorkerDied:
        code = self._process.wait()
        by_kernel = tell_oom_kill(code, self._kills_before)
        error = _describe_death(code, self._last_words())
        if by_kernel is not None:
            return WorkerDied(status=OUT_OF_MEMORY, error=f"{error}: {by_kernel}")
        return WorkerDied(status=FAILED, error=error)

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode("utf-8", "replace").strip()
        return " ".join(text[-_LAST_WORDS:].split())


def _describe_death(code: int, last_words: str) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        return f"the worker was killed by signal {-code} ({name})"
    tail = f": {last_words}" if last_words else ""
    return f"the worker ended with status {code}{tail}"


def _environment(threads: int) -> dict[str, str]:
    return {
        # `cuda:N` has to be the board that NVML lists at that place.
        **order_as_listed(os.environ),
        "PYTHONPATH": import_path(),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
