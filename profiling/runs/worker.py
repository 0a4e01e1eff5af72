"""The process that a point runs in, and when its loaded model is kept for the next point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.machine.machine import oom_kill_count
from profiling.points.point import Point
from profiling.records import (
    AT_READING,
    COMPLETED,
    FAILED,
    OUT_OF_MEMORY,
    SUMMARY_COLUMNS,
    UNSUPPORTED,
    Reading,
    summarize,
    write_record,
)
from profiling.samples.samples import Sample

if TYPE_CHECKING:
    from profiling.runs.experiment import Findings, Loaded

_CHILD = (sys.executable, "-m", "profiling.runs.worker")
_PR_SET_PDEATHSIG = 1
_LAST_WORDS = 300
# What allocators say where they raise nothing more telling than a RuntimeError.
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A point to run, and what its record says besides the findings."""

    point: Point
    samples: list[Sample]
    folder: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a point ended."""

    status: str
    error: str | None
    loaded: bool
    summary: Mapping[str, Any]


# In the parent


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

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Job, on_event: Callable[[str], None]) -> Outcome:
        """Run a job to its end; a worker that dies on the way is an outcome too."""
        kills_before = oom_kill_count()
        for kind, news in self._listen(job):
            if kind == "outcome":
                return Outcome(**news)
            on_event(news)
        return self._bury(job, kills_before)

    def _listen(self, job: Job) -> Iterator[tuple[str, Any]]:
        """What the child says about a job until it dies, which may be in mid-message."""
        try:
            self._connection.send(job)
            while True:
                yield self._connection.recv()
        except (EOFError, OSError):
            return

    def close(self) -> None:
        """Let the child end by itself, and make it end where it does not."""
        self._connection.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def _bury(self, job: Job, kills_before: int | None) -> Outcome:
        code = self._process.wait()
        kills_after = oom_kill_count()
        killed = code == -signal.SIGKILL
        by_kernel = None not in (kills_before, kills_after) and kills_after != kills_before
        status = OUT_OF_MEMORY if killed and by_kernel else FAILED
        error = _describe_death(code, self._last_words())
        if status == OUT_OF_MEMORY:
            error = f"{error}: the kernel counts {kills_after} out-of-memory kills, before it was"
            error += f" {kills_before}"
        summary = record(job, status=status, error=error, dtype=None, readings=[], answers=[])
        return Outcome(status=status, error=error, loaded=False, summary=summary)

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
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *([path] if path else [])]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


class WorkerKeeper:
    """Keeps a worker as long as the next point needs the very model that it has loaded."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._key: tuple[object, ...] | None = None
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
            # It is still at work, and would answer the next point with this one's outcome.
            self.kill()
            raise
        self.num_loaded += outcome.loaded
        if outcome.status != COMPLETED:
            # What a failure leaves in a process is nothing to build the next point on.
            self.close()
        return outcome

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker, self._key = None, None

    def kill(self) -> None:
        if self._worker is not None:
            self._worker.kill()
        self._worker, self._key = None, None


# In either


def record(
    job: Job,
    *,
    status: str,
    error: str | None,
    dtype: str | None,
    readings: list[Reading],
    answers: list[dict[str, Any]],
    noise: str | None = None,
) -> dict[str, Any]:
    """Write the record of a point and return its summary."""
    point = job.point
    columns = [column for column in SUMMARY_COLUMNS if column not in AT_READING]
    summary = dict.fromkeys(columns) | {
        "fingerprint": job.facts["fingerprint"],
        "status": status,
        "model": point.model,
        "weights": point.weights,
        "dataset": point.dataset,
        "optimization": "+".join(point.optimization),
        "img_size": point.img_size,
        "prompt_len": point.prompt_len,
        "batch_size": point.batch_size,
        "max_new_tokens": point.max_new_tokens,
        "device": point.device,
        "dtype": dtype,
        "num_samples": point.num_samples,
        **summarize(readings),
        "noisy": None if status != COMPLETED else noise is not None,
        "noise_reason": noise,
    }
    run = {
        **job.facts,
        "status": status,
        "error": error,
        "finished_at": now(),
        "summary": summary,
    }
    write_record(job.folder, run=run, readings=readings, answers=answers)
    return summary


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# In the child


class Bench:
    """The child's side: one loaded model, and the jobs that use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded: Loaded | None = None

    def serve(self) -> None:
        while True:
            try:
                job = self._connection.recv()
            except EOFError:
                return
            fresh = self._loaded is None
            status, error, summary = self._perform(job)
            outcome = {
                "status": status,
                "error": error,
                "loaded": fresh and self._loaded is not None,
                "summary": summary,
            }
            self._connection.send(("outcome", outcome))

    def _notify(self, phase: str) -> None:
        self._connection.send(("phase", phase))

    def _perform(self, job: Job) -> tuple[str, str | None, dict[str, Any]]:
        self._notify("starting")
        # Imported here, in the child alone: the parent never pays for torch.
        from profiling.runs import experiment

        try:
            import torch

            torch.set_num_threads(job.point.threads)
            torch.manual_seed(job.point.seed)
            if self._loaded is None:
                self._notify("loading")
                self._loaded = experiment.load(job.point)
            found = experiment.measure(job.point, job.samples, self._loaded, self._notify)
            return self._keep(job, found)
        except Exception as problem:
            return self._fail(job, problem)

    def _keep(self, job: Job, found: Findings) -> tuple[str, str | None, dict[str, Any]]:
        if found.noise and job.point.strict:
            error = f"refused because strict=true and the machine was busy: {found.noise}"
            return self._close_off(job, FAILED, error)
        summary = record(
            job,
            status=COMPLETED,
            error=None,
            dtype=found.dtype,
            readings=found.readings,
            answers=found.answers,
            noise=found.noise,
        )
        return COMPLETED, None, summary

    def _fail(self, job: Job, problem: Exception) -> tuple[str, str | None, dict[str, Any]]:
        status = classify(problem)
        outcome = self._close_off(job, status, one_line(problem))
        if status == FAILED:
            text = "".join(traceback.format_exception(problem))
            (job.folder / "traceback.txt").write_text(text, encoding="utf-8")
        return outcome

    def _close_off(self, job: Job, status: str, error: str) -> tuple[str, str, dict[str, Any]]:
        summary = record(job, status=status, error=error, dtype=None, readings=[], answers=[])
        return status, error, summary


def classify(problem: Exception) -> str:
    """Which status an exception means; memory is blamed only on its own word."""
    import torch

    from profiling.errors import Unsupported

    if isinstance(problem, Unsupported):
        return UNSUPPORTED
    text = str(problem).lower()
    refused = isinstance(problem, RuntimeError) and any(words in text for words in _NO_MEMORY)
    if refused or isinstance(problem, (MemoryError, torch.OutOfMemoryError)):
        return OUT_OF_MEMORY
    return FAILED


def one_line(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    plain = isinstance(problem, ConfigError) or classify(problem) == UNSUPPORTED
    return text if plain else f"{type(problem).__name__}: {text}"[:500]


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
    Bench(Connection(descriptor)).serve()
    # Tearing down libraries that nobody needs any more can take seconds.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
