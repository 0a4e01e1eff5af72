"""A child process that does as a test tells it, in place of one that loads models."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from profiling.runs import child
from profiling.runs.child import Child
from profiling.runs.job import Job
from profiling.runs.paired.requests import Failure, Pass, Passed, Prepare, Prepared, Request
from profiling.runs.recording import record

# The environment variable that names the folder with `actions.json`, and where `jobs.txt` goes.
FOLDER = "FAKE_WORKER"


class FakeChild(Child):
    """Does with each point what `actions.json` says for its picture size; completes it if none."""

    def _perform(self, job: Job) -> tuple[str, str | None, dict[str, Any]]:
        folder = Path(os.environ[FOLDER])
        actions = json.loads((folder / "actions.json").read_text(encoding="utf-8"))
        action = actions.get(str(job.point.img_size), "completed")
        with (folder / "jobs.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()} {job.point.model} {job.point.img_size} {action}\n")
        self._notify(f"now {action}")
        engine = SimpleNamespace(close=lambda: None)
        self._loaded = self._loaded or SimpleNamespace(engine=engine)  # type: ignore[assignment]
        return self._act(action, job)

    def _answer(self, request: Request) -> Any:
        """Passes take as many milliseconds as they make tokens, and do as told on loading."""
        if isinstance(request, Prepare):
            self._tokens = request.point.max_new_tokens
            return self._prepare(request)
        if isinstance(request, Pass):
            time.sleep(self._tokens / 1000)
            times = {"total": self._tokens / 1000, "decode": self._tokens / 1000, "other": 0.0}
            return Passed(batch=0, times_s=times, idle_s=1.0, idle_cpu_s=0.0)
        return None

    def _prepare(self, request: Prepare) -> Any:
        folder = Path(os.environ[FOLDER])
        actions = json.loads((folder / "actions.json").read_text(encoding="utf-8"))
        action = actions.get(f"tokens{self._tokens}", "completed")
        with (folder / "sides.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()} {self._tokens} {action}\n")
        if action == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        if action == "hang":
            time.sleep(600)
        if action != "completed":
            return Failure(status=action, error="as told", traceback=None)
        return Prepared(pids=(), gpu_uuid=None, on_cpu=True, num_batches=1, load_s=0.1)

    def _act(self, action: str, job: Job) -> tuple[str, str | None, dict[str, Any]]:
        if action == "hang":
            time.sleep(600)
        if action == "nap":
            time.sleep(1)
            action = "completed"
        if action in ("SIGKILL", "SIGSEGV", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, action))
            time.sleep(600)
        if action == "exit":
            print("some last\nwords", file=sys.stderr, flush=True)
            os._exit(3)
        error = None if action == "completed" else "as told"
        summary = record(
            job,
            status=action,
            error=error,
            dtype=None,
            computes_in=None,
            readings=[],
            answers=[],
        )
        return action, error, summary


if __name__ == "__main__":
    child.Child = FakeChild  # type: ignore[misc]
    child.main()
