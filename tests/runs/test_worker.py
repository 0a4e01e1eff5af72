"""The process that a point runs in: kept while it is of use, and never missed without a record."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.machine import machine
from profiling.records import COMPLETED, FAILED, OUT_OF_MEMORY, UNSUPPORTED, Reading, read
from profiling.runs import worker
from profiling.runs.child import Child
from profiling.runs.failures import classify, describe_problem
from profiling.runs.job import Job, Outcome
from profiling.runs.keeper import WorkerKeeper
from profiling.runs.recording import now
from tests.faking import CHILD, await_that, list_jobs, make_plan, tell
from tests.marking import slow_except
from tests.runs.fake_worker import FOLDER


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerKeeper]:
    monkeypatch.setattr(worker, "_CHILD", CHILD)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    tell(tmp_path)
    keeper = WorkerKeeper()
    yield keeper
    keeper.kill()


def make_job(folder: Path, *overrides: str) -> Job:
    plan = make_plan(folder, *overrides)
    facts = {
        "fingerprint": plan.fingerprint,
        "config": plan.point.as_config(),
        "machine": {},
        "started_at": now(),
    }
    place = folder / "results" / plan.fingerprint
    return Job(point=plan.point, samples=plan.samples, folder=place, facts=facts)


def run(keeper: WorkerKeeper, folder: Path, *overrides: str) -> Outcome:
    return keeper.run(make_job(folder, *overrides), lambda _: None)


def pids(folder: Path) -> list[str]:
    return [pid for pid, *_ in list_jobs(folder)]


def recorded(folder: Path) -> list[tuple[str, str | None]]:
    collection = read(folder / "results")
    assert collection.problems == []
    return [(record.status, record.run["error"]) for record in collection.records]


# How long it is kept


def test_a_worker_is_kept_while_the_next_point_needs_its_model(
    keeper: WorkerKeeper, tmp_path: Path
) -> None:
    for overrides in (
        ["img_size=112"],
        ["img_size=224"],
        ["model=llava"],
        ["model=llava", "seed=2"],
    ):
        assert run(keeper, tmp_path, *overrides).status == COMPLETED
    first, second, third, fourth = pids(tmp_path)
    assert first == second != third == fourth
    assert keeper.num_loaded == 2


def test_events_are_passed_on_in_order(keeper: WorkerKeeper, tmp_path: Path) -> None:
    events: list[str] = []
    outcome = keeper.run(make_job(tmp_path), events.append)
    assert events == ["now completed"]
    assert outcome.loaded and outcome.summary["model"] == "qwen25vl"


@pytest.mark.parametrize("status", slow_except([FAILED, OUT_OF_MEMORY, UNSUPPORTED], OUT_OF_MEMORY))
def test_nothing_is_built_on_what_a_failure_left(
    status: str, keeper: WorkerKeeper, tmp_path: Path
) -> None:
    tell(tmp_path, s112=status)
    assert run(keeper, tmp_path, "img_size=112").status == status
    assert run(keeper, tmp_path, "img_size=224").status == COMPLETED
    first, second = pids(tmp_path)
    assert first != second


def test_a_worker_that_was_killed_while_idle_costs_no_point(
    keeper: WorkerKeeper, tmp_path: Path
) -> None:
    run(keeper, tmp_path, "img_size=112")
    child = psutil.Process(int(pids(tmp_path)[0]))
    child.kill()
    await_that(lambda: child.status() == psutil.STATUS_ZOMBIE)
    assert run(keeper, tmp_path, "img_size=224").status == COMPLETED
    assert {status for status, _ in recorded(tmp_path)} == {COMPLETED}


def test_a_worker_whose_news_nobody_can_take_does_not_answer_the_next_point(
    keeper: WorkerKeeper, tmp_path: Path
) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    tell(tmp_path, s112="nap")
    with pytest.raises(BrokenPipeError):
        keeper.run(make_job(tmp_path, "img_size=112"), broken)
    assert not psutil.pid_exists(int(pids(tmp_path)[0]))
    outcome = run(keeper, tmp_path, "img_size=224")
    assert (outcome.status, outcome.summary["img_size"]) == (COMPLETED, 224)


@pytest.mark.parametrize("way", ["close", "kill"])
def test_no_process_is_left(way: str, keeper: WorkerKeeper, tmp_path: Path) -> None:
    run(keeper, tmp_path)
    getattr(keeper, way)()
    assert not psutil.pid_exists(int(pids(tmp_path)[0]))


# How it ends


@pytest.mark.parametrize("name", slow_except(["SIGKILL", "SIGSEGV", "SIGTERM"], "SIGSEGV"))
def test_a_killed_worker_is_recorded_with_the_signal(
    name: str, keeper: WorkerKeeper, tmp_path: Path
) -> None:
    tell(tmp_path, s112=name)
    outcome = run(keeper, tmp_path, "img_size=112")
    number = int(getattr(signal, name))
    assert outcome.status == FAILED
    assert outcome.error == f"the worker was killed by signal {number} ({name})"
    assert recorded(tmp_path) == [(FAILED, outcome.error)]


def test_a_worker_that_ends_by_itself_is_recorded_with_its_last_words(
    keeper: WorkerKeeper, tmp_path: Path
) -> None:
    tell(tmp_path, s112="exit")
    outcome = run(keeper, tmp_path, "img_size=112")
    assert recorded(tmp_path) == [(FAILED, "the worker ended with status 3: some last words")]
    assert outcome.summary["status"] == FAILED


@pytest.mark.parametrize(
    ("name", "counts", "status"),
    slow_except(
        [
            ("SIGKILL", (3, 4), OUT_OF_MEMORY),
            ("SIGKILL", (3, 3), FAILED),
            ("SIGKILL", (None, None), FAILED),
            ("SIGKILL", (None, 4), FAILED),
            ("SIGSEGV", (3, 4), FAILED),
            ("exit", (3, 4), FAILED),
        ],
        *(("SIGKILL", (3, 4), OUT_OF_MEMORY), ("SIGKILL", (None, 4), FAILED)),
        ("exit", (3, 4), FAILED),
    ),
)
def test_memory_is_blamed_on_evidence_alone(
    name: str,
    counts: tuple[int | None, int | None],
    status: str,
    keeper: WorkerKeeper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = iter(counts)
    for module in (worker, machine):
        monkeypatch.setattr(module, "oom_kill_count", lambda: next(counted))
    tell(tmp_path, s112=name)
    outcome = run(keeper, tmp_path, "img_size=112")
    assert outcome.status == status
    assert outcome.error is not None
    assert ("the kernel counts 4 out-of-memory kills" in outcome.error) == (status == OUT_OF_MEMORY)


# What exceptions mean


class _Refused(RuntimeError):
    """An error of a GPU library, which says what it is in words alone."""


def _cases() -> list[tuple[Exception, str]]:
    import torch

    from profiling.errors import Unsupported

    return [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), OUT_OF_MEMORY),
        (MemoryError(), OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), OUT_OF_MEMORY),
        (_Refused("CUDA error: out of memory"), OUT_OF_MEMORY),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), OUT_OF_MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), FAILED),
        (ValueError("not enough memory for a joke"), FAILED),
        (RuntimeError("something else"), FAILED),
        (OSError(28, "No space left on device"), FAILED),
        (ConfigError("a", 1, "b"), FAILED),
        (Unsupported("no compiler"), UNSUPPORTED),
    ]


def test_what_exceptions_mean() -> None:
    from profiling.engines.transformers.engine import ENGINE

    for problem, status in _cases():
        assert classify(problem, ENGINE.is_out_of_memory) == status, repr(problem)


def test_an_allocation_that_torch_refuses_is_out_of_memory() -> None:
    import torch

    from profiling.engines.transformers.engine import ENGINE

    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert classify(refused.value, ENGINE.is_out_of_memory) == OUT_OF_MEMORY


def test_an_exception_is_told_in_describe_problem() -> None:
    for problem, _ in _cases():
        assert "\n" not in describe_problem(problem)
    assert describe_problem(ValueError("a\n  b")) == "ValueError: a b"
    assert describe_problem(ConfigError("a", 1, "b")) == "a=1: b"
    assert len(describe_problem(ValueError("x" * 10_000))) <= 500


# The child's side


class _Listener:
    """Stands where the parent listens."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, news: Any) -> None:
        self.sent.append(news)


def perform(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, **found: Any
) -> tuple[str, str | None]:
    """What the child makes of findings."""
    plain = {"readings": [], "answers": [], "noise": None}
    plain |= {"dtype": "float32", "computes_in": "float32", "trace": None}
    fake = types.ModuleType("profiling.runs.experiment")
    fake.check_samples = lambda *_: None  # type: ignore[attr-defined]
    fake.load = lambda point: object()  # type: ignore[attr-defined]
    fake.measure = lambda *_: types.SimpleNamespace(**(plain | found))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "profiling.runs.experiment", fake)
    monkeypatch.setattr("profiling.runs.experiment", fake, raising=False)
    status, error, _ = Child(_Listener())._perform(make_job(folder, *overrides))  # type: ignore[arg-type]
    return status, error


def test_findings_become_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(
        phase="total", metric="latency_s", value=0.25, unit="s", status="measured", source="clock"
    )
    assert perform(tmp_path, monkeypatch, readings=[reading]) == (COMPLETED, None)
    (record,) = read(tmp_path / "results").records
    assert record.summary["latency_s"] == 0.25
    assert (record.summary["dtype"], record.summary["noisy"]) == ("float32", False)
    assert not {"agreement", "speedup"} & record.summary.keys()


def test_a_number_that_is_none_fails_the_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(
        phase="total", metric="latency_s", value=math.nan, unit="s", status="measured", source=""
    )
    status, error = perform(tmp_path, monkeypatch, readings=[reading])
    assert status == FAILED and error is not None and error.startswith("ValueError: ")
    ((recorded_status, _),) = recorded(tmp_path)
    assert recorded_status == FAILED
    (trace,) = (tmp_path / "results").glob("*/traceback.txt")
    assert "ValueError" in trace.read_text(encoding="utf-8")


def test_a_busy_machine_is_noted_and_refused_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert perform(tmp_path, monkeypatch, noise="load 9") == (COMPLETED, None)
    (record,) = read(tmp_path / "results").records
    assert (record.summary["noisy"], record.summary["noise_reason"]) == (True, "load 9")
    status, error = perform(tmp_path, monkeypatch, "strict=true", noise="load 9")
    assert status == FAILED and error is not None and "load 9" in error


ORPHAN = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from profiling.runs import worker
from profiling.runs.keeper import WorkerKeeper
from tests.faking import CHILD
from tests.runs.test_worker import make_job
worker._CHILD = CHILD
folder = Path(os.environ[{FOLDER!r}])
WorkerKeeper().run(make_job(folder), print)
"""


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    tell(tmp_path, s112="hang")
    environment = os.environ | {FOLDER: str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], env=environment)
    await_that(lambda: bool(list_jobs(tmp_path)))
    parent.kill()
    parent.wait()
    child = int(pids(tmp_path)[0])
    await_that(lambda: not psutil.pid_exists(child) or _is_zombie(child), within_s=10)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
