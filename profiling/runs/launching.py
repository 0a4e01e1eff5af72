"""Sweeps in other processes: Hydra's launchers, what they lose, and the jobs they start."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from profiling import import_path
from profiling.records import FAILED
from profiling.runs.session import Plan, Session, is_kept, kept_status

# Classes of launchers that give up a whole sweep when they lose a process of this machine. Ray
# replaces a process by itself, but only so often, and fails where it cannot start one in time.
_GIVE_UP = ("JoblibLauncher", "LocalLauncher", "RayLauncher")
_QUEUES = ("SlurmLauncher",)
_MOST_LAUNCHES = 3
_GPUS = "CUDA_VISIBLE_DEVICES"
_GPUS_SEEN = "VLM_PROFILING_GPUS_SEEN"
_ALL = "all"
_LONGEST_COMPLAINT = 300

# The launchers' configurations have the names of those that come with their packages.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


def launch(
    jobs: Sequence[Sequence[str]],
    plans: Sequence[Plan],
    launcher: Launcher,
    session: Session,
) -> None:
    """Have a launcher run jobs in other processes, and launch again those that it lost."""
    kind = type(launcher).__name__
    prepare_environment(kind)
    again = kind in _GIVE_UP and all(plan.point.resume for plan in plans)
    left = list(range(len(jobs)))
    for _ in range(_MOST_LAUNCHES if again else 1):
        try:
            results = launcher.launch([jobs[i] for i in left], initial_job_idx=0)
        except Exception as error:  # each launcher has its own error for a lost process
            session.progress.note(f"{kind} broke off: {_one_line(error)}")
        else:
            count_results(session, results)
            return
        there = [i for i in left if again and is_kept(plans[i])]
        session.statuses += [str(kept_status(plans[i])) for i in there]
        left = [i for i in left if i not in there]
        if not left:
            return
    session.statuses += [FAILED] * len(left)
    session.progress.note(
        f"what became of {len(left)} points is not known; jobs that were submitted may still"
        " run, and the same command goes on from what they leave"
    )


def prepare_environment(kind: str) -> None:
    """Let processes that start elsewhere find the code and the GPUs, and send no usage reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A queue decides itself which GPUs a job gets.
    if kind not in _QUEUES:
        os.environ[_GPUS_SEEN] = os.environ.get(_GPUS, _ALL)
    os.environ["PYTHONPATH"] = import_path()


def count_results(session: Session, results: Sequence[JobReturn]) -> None:
    """Add the statuses of jobs that ran in other processes to the session's own."""
    for result in results:
        if result.status == JobStatus.COMPLETED:
            session.statuses.append(str(result.return_value))
        else:
            count_broken(session, [result])


def count_broken(session: Session, results: Sequence[JobReturn]) -> None:
    """Count jobs that ended with an exception as failed, in one line each."""
    for result in results:
        if result.status != JobStatus.COMPLETED:
            session.progress.note(f"a job broke off: {_complaint(result)}")
            session.statuses.append(FAILED)


def _complaint(result: JobReturn) -> str:
    # The return value of a failed job prints a heading and raises.
    with redirect_stderr(io.StringIO()):
        try:
            return str(result.return_value)
        except Exception as error:  # whatever went wrong in the other process
            return _one_line(error)


def _one_line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_COMPLAINT else f"{text[:_LONGEST_COMPLAINT]}…"


# In a process that a launcher started


def enter_launched_process() -> None:
    """Give it the working folder and the GPUs of the process where the sweep was typed."""
    from hydra.core.hydra_config import HydraConfig

    os.chdir(HydraConfig.get().runtime.cwd)
    see_gpus()


def see_gpus() -> None:
    """Undo that some launchers hide all GPUs from a job that asked for none."""
    seen = os.environ.get(_GPUS_SEEN)
    if seen is None or os.environ.get(_GPUS) != "":
        return
    if seen == _ALL:
        del os.environ[_GPUS]
    else:
        os.environ[_GPUS] = seen
