"""Running the project with a fake child: in this process, or as whole command lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from profiling.runs.session import Plan, plan_point
from tests.composing import PROJECT, compose_config, make_dataset
from tests.runs.fake_worker import FOLDER

CHILD = (sys.executable, str(PROJECT / "tests" / "runs" / "fake_worker.py"))
DRIVER = f"""
import runpy, sys
sys.path.insert(0, {str(PROJECT)!r})
%s
from profiling.runs import worker
worker._CHILD = {CHILD!r}
from profiling.runs import announcing
announcing.estimate = lambda plans: [{{}} for _ in plans]
sys.argv[0] = {str(PROJECT / "main.py")!r}
"""
RUN_MAIN = """
runpy.run_path(sys.argv[0], run_name="__main__")
"""
RUN_VERSUS = """
runpy.run_module("profiling.versus", run_name="__main__")
"""


def tell(folder: Path, **actions: str) -> None:
    """Say what becomes of points, by their picture size: tell(folder, s112="hang")."""
    by_size = {name.removeprefix("s"): action for name, action in actions.items()}
    (folder / "actions.json").write_text(json.dumps(by_size), encoding="utf-8")


def list_jobs(folder: Path) -> list[list[str]]:
    """The jobs that any child has begun: process, model, picture size, what it was told."""
    path = folder / "jobs.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def make_plan(folder: Path, *overrides: str) -> Plan:
    if not (folder / "mine").exists():
        make_dataset(folder / "mine")
    config = compose_config(*overrides)
    config["dataset"]["folder"] = str(folder / "mine")
    config["results_dir"] = str(folder / "results")
    return plan_point(config)


def start(
    folder: Path, *arguments: str, driver: str = "", command: str = RUN_MAIN
) -> subprocess.Popen[str]:
    """A command line of its own process, whose children are fake; `driver` is run before it."""
    program = DRIVER % driver + command
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments, "num_samples=1", "share_device=true"],
        cwd=folder,
        env=os.environ | {FOLDER: str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_interruptions,
    )


def listen_to_interruptions() -> None:
    """What a shell starts in the background ignores ^C, and so does all that comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=600)
    return process.returncode, output, errors


def await_that(condition: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
