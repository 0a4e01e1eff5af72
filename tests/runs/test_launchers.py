"""Sweeps run by other processes: the records of the plain one, also where some are killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.points import overrides
from profiling.points.overrides import LAUNCHER_PLUGINS, check_overrides
from profiling.records import Collection, Record, read
from profiling.runs import launching
from profiling.runs.session import Session
from tests.faking import await_that

ENGINES = ("joblib", "submitit_local", "ray")
QUICK = (
    "profiler=quick",
    "num_samples=1",
    "max_new_tokens=2",
    "threads=1",
    "profiler.time_budget_s=0.2",
    "profiler.roofline.target_s=0.02",
    "profiler.probes.energy.estimate_s=0.1",
    "results_dir=results",
)
TWELVE = ("model=llava,fuyu", "img_size=112,168", "prompt_len=8,16,24")
# What a point costs differs from run to run; what it is, computes and answers does not.
SAME = (
    "fingerprint",
    "status",
    "model",
    "img_size",
    "prompt_len",
    "device",
    "dtype",
    "num_samples",
    "flops",
    "flops_vision",
    "flops_projector",
    "flops_prefill",
    "flops_decode",
    "model_bytes",
    "energy_source",
    "peak_memory_source",
    "wer",
    "cer",
    "accuracy",
    "accuracy_name",
    "num_question_tokens",
    "num_prompt_tokens",
    "num_visual_tokens",
    "num_new_tokens",
)


def needs(engine: str) -> None:
    if find_spec(f"hydra_plugins.{LAUNCHER_PLUGINS[engine]}") is None:
        pytest.skip(f"hydra/launcher={engine} is not installed")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    # The path of a socket has to be short.
    environment = os.environ | {"RAY_TMPDIR": "/tmp"}
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "main.py"), "-m", *QUICK, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=1800)
    return process.returncode, output, errors


def collect(folder: Path) -> Collection:
    collection = read(folder / "results")
    assert collection.problems == []
    return collection


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """What the sweep leaves behind where one process runs it."""
    folder = tmp_path_factory.mktemp("plain")
    status, _, errors = finish(start(folder, *TWELVE))
    assert status == 0, errors
    return collect(folder)


def essence(record: Record) -> dict[str, Any]:
    rows = record.readings
    aggregates = rows[rows["repeat"].isna() & rows["batch"].isna()]
    return {
        "summary": {column: record.summary[column] for column in SAME},
        "config": record.config,
        "versions": record.run["versions"],
        "answers": record.answers,
        "readings": sorted(set(zip(aggregates["phase"], aggregates["metric"], strict=True))),
    }


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_records_are_those_of_one_process(
    engine: str, plain: Collection, tmp_path: Path
) -> None:
    needs(engine)
    status, output, errors = finish(start(tmp_path, f"hydra/launcher={engine}", *TWELVE))
    assert status == 0, errors
    assert "12 points: 12 completed" in output
    assert len(plain.records) == 12
    assert list(map(essence, collect(tmp_path).records)) == list(map(essence, plain.records))
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_points_on_one_device_take_turns(engine: str, tmp_path: Path) -> None:
    needs(engine)
    arguments = ("model=llava", "img_size=112,168")
    process = start(tmp_path, f"hydra/launcher={engine}", *arguments)
    most = 0
    while process.poll() is None:
        most = max(most, len(list_measuring(process.pid)))
        time.sleep(0.1)
    assert process.returncode == 0, process.communicate()
    assert most == 1


def list_measuring(pid: int) -> list[psutil.Process]:
    return list(_list_measuring(pid))


def is_worker(process: psutil.Process) -> bool:
    return "profiling.runs.child" in process.cmdline()


def _list_measuring(pid: int) -> Iterator[psutil.Process]:
    for process in psutil.Process(pid).children(recursive=True):
        try:
            # What a worker starts goes by the worker's own name for a moment.
            parent = process.parent()
            if is_worker(process) and not (parent and is_worker(parent)):
                yield process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue


def await_measuring(process: subprocess.Popen[str]) -> psutil.Process:
    found: list[psutil.Process] = []

    def is_there() -> bool:
        # What was seen is kept: on a busy machine a second look may come too late.
        found.extend(list_measuring(process.pid))
        return process.poll() is not None or bool(found)

    await_that(is_there, within_s=300)
    assert found, process.communicate()
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_point_whose_launched_process_is_killed_is_run_again(engine: str, tmp_path: Path) -> None:
    needs(engine)
    process = start(tmp_path, f"hydra/launcher={engine}", "model=llava", "img_size=112,168")
    launched = await_measuring(process).parent()
    assert launched is not None and launched.pid != process.pid
    launched.kill()
    status, output, errors = finish(process)
    assert status == 0, errors
    assert "2 points: 2 completed" in output
    assert "Traceback" not in errors
    assert {record.status for record in collect(tmp_path).records} == {"completed"}
    assert len(collect(tmp_path).records) == 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_point_whose_measuring_process_is_killed_is_recorded(engine: str, tmp_path: Path) -> None:
    needs(engine)
    process = start(tmp_path, f"hydra/launcher={engine}", "model=llava", "img_size=112,168")
    await_measuring(process).kill()
    status, _, errors = finish(process)
    assert status == 1, errors
    records = sorted(collect(tmp_path).records, key=lambda record: record.status)
    assert [record.status for record in records] == ["completed", "failed"]
    assert "signal 9 (SIGKILL)" in records[1].run["error"]


@pytest.mark.slow
def test_slurm_takes_a_sweep(tmp_path: Path) -> None:
    needs("submitit_slurm")
    if shutil.which("sbatch") is None:
        pytest.skip("there is no Slurm here")
    asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=300)
    if asked.returncode != 0 or not asked.stdout.strip():
        pytest.skip(f"no Slurm controller answers: {asked.stderr.strip()}")
    limits = {"cpus_per_task": 1, "mem_gb": "null", "gpus_per_node": "null"}
    small = [f"hydra.launcher.{name}={value}" for name, value in limits.items()]
    process = start(tmp_path, "hydra/launcher=submitit_slurm", *small, *TWELVE)
    status, output, errors = finish(process)
    assert status == 0, errors
    assert "12 points: 12 completed" in output
    assert len(collect(tmp_path).records) == 12


def test_every_launcher_is_known() -> None:
    stems = {path.stem for path in (PROJECT / "conf/hydra/launcher").glob("*.yaml")}
    assert stems == set(LAUNCHER_PLUGINS)


@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher/\w+' is validated:UserWarning")
@pytest.mark.parametrize("engine", LAUNCHER_PLUGINS)
def test_every_launcher_can_be_made(engine: str, tmp_path: Path) -> None:
    needs(engine)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(PROJECT / "conf"), version_base="1.3"):
        overrides = [f"hydra/launcher={engine}", f"results_dir={tmp_path}"]
        config = compose("config", overrides, return_hydra_config=True)
    launcher = Plugins.instance()._instantiate(config.hydra.launcher)
    assert isinstance(launcher, Launcher) and not isinstance(launcher, BasicLauncher)


class Losing:
    """A launcher that gives up as often as it is told, with one more point done each time."""

    def __init__(self, *, losses: int, done: list[str]) -> None:
        self._losses, self._done, self.asked = losses, done, []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.asked.append([job[0] for job in jobs])
        if len(self.asked) > self._losses:
            return [JobReturn(status=JobStatus.COMPLETED, _return_value="completed") for _ in jobs]
        self._done.append(jobs[0][0])
        raise BrokenPipeError("a process\nwas lost")


class JoblibLauncher(Losing):
    """Under the name of one that loses all of a sweep on this machine."""


class RayLauncher(Losing):
    """Under the name of one that replaces a process only so often."""


class SlurmLauncher(Losing):
    """Under the name of one whose jobs go on by themselves."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The points that have a record, in place of folders."""
    done: list[str] = []
    monkeypatch.setattr(launching, "is_kept", lambda plan: plan.fingerprint in done)
    monkeypatch.setattr(launching, "kept_status", lambda plan: "completed")
    monkeypatch.setenv("PYTHONPATH", "")
    return done


def launch(launcher: Losing, *, resume: bool = True) -> list[str]:
    names = ["a", "b", "c", "d"]
    point = SimpleNamespace(resume=resume, results_dir="results")
    plans = [SimpleNamespace(point=point, fingerprint=name) for name in names]
    session = Session(total=4)
    launching.launch([[name] for name in names], plans, launcher, session)  # type: ignore[arg-type]
    return session.statuses


@pytest.mark.parametrize("kind", [JoblibLauncher, RayLauncher])
def test_what_a_lost_process_took_along_is_launched_again(
    kind: type[Losing], done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = kind(losses=2, done=done)
    assert launch(launcher) == ["completed"] * 4
    assert launcher.asked == [["a", "b", "c", "d"], ["b", "c", "d"], ["c", "d"]]
    errors = capsys.readouterr().err.splitlines()
    assert errors == [f"{kind.__name__} broke off: BrokenPipeError: a process was lost"] * 2


def test_launching_again_comes_to_an_end(done: list[str]) -> None:
    launcher = JoblibLauncher(losses=99, done=done)
    assert launch(launcher) == ["completed", "completed", "completed", "failed"]


def test_nothing_is_launched_where_all_points_are_there(done: list[str]) -> None:
    launcher = JoblibLauncher(losses=1, done=done)
    done += ["b", "c", "d"]
    assert launch(launcher) == ["completed"] * 4
    assert launcher.asked == [["a", "b", "c", "d"]]


def test_jobs_of_a_queue_are_not_submitted_twice(
    done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = SlurmLauncher(losses=1, done=done)
    assert launch(launcher) == ["failed"] * 4
    assert len(launcher.asked) == 1
    assert "what became of 4 points is not known" in capsys.readouterr().err


def test_points_that_are_to_be_measured_anew_are_launched_once(done: list[str]) -> None:
    launcher = JoblibLauncher(losses=1, done=done)
    assert launch(launcher, resume=False) == ["failed"] * 4
    assert len(launcher.asked) == 1


def test_a_job_that_failed_elsewhere_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = Session(total=2)
    wrong = ConfigError("dataset.folder", "/x", "no such\nfolder")
    results = [
        JobReturn(status=JobStatus.FAILED, _return_value=wrong),
        JobReturn(status=JobStatus.COMPLETED, _return_value="unsupported"),
    ]
    launching.count_results(session, results)
    assert session.statuses == ["failed", "unsupported"]
    line = "a job broke off: ConfigError: dataset.folder=/x: no such folder\n"
    assert capsys.readouterr().err == line


def test_a_launcher_that_loses_a_job_without_a_word_is_a_failure() -> None:
    session = Session(total=3)
    done = [JobReturn(status=JobStatus.COMPLETED, _return_value="completed") for _ in range(2)]
    launching.count_results(session, done)
    assert session.exit_status(single=False) == 1
    assert session.counts() == "2 of 3 points: 2 completed"
    launching.count_results(session, done[:1])
    assert session.exit_status(single=False) == 0


@pytest.mark.parametrize("seen", [None, "2,3", ""])
def test_jobs_see_the_gpus_that_the_sweep_saw(
    seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {} if seen is None else {launching._GPUS: seen})
    launching.prepare_environment("LocalLauncher")
    for given, found in (("", seen), ("1", "1")):
        os.environ[launching._GPUS] = given
        launching.see_gpus()
        assert os.environ.get(launching._GPUS) == found


def test_jobs_of_a_queue_see_the_gpus_that_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    launching.prepare_environment("SlurmLauncher")
    os.environ[launching._GPUS] = ""
    launching.see_gpus()
    assert os.environ[launching._GPUS] == ""


def test_a_launcher_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overrides, "find_spec", lambda name: None)
    for engine in LAUNCHER_PLUGINS:
        with pytest.raises(ConfigError) as refusal:
            check_overrides(["-m", f"hydra/launcher={engine}"])
        name = "ray" if "ray" in engine else "launchers"
        assert (PROJECT / f"requirements-{name}.txt").is_file()
        assert f"pip install -r requirements-{name}.txt" in str(refusal.value)
    check_overrides(["-m", "hydra/launcher=basic"])
