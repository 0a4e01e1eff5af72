"""From a command line to points: all of them checked before the first one runs."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import OverrideParseException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from profiling import PROJECT
from profiling.arguments import refuse
from profiling.errors import ConfigError
from profiling.models.weights import describe_weights
from profiling.points.configuration import (
    GROUPS,
    ROOT_KEYS,
    SINGLE_GROUPS,
    describe_options,
    keys_beside,
)
from profiling.points.point import order_for_loading
from profiling.records import FAILED
from profiling.runs.forecast import Forecast
from profiling.runs.progress import show_duration
from profiling.runs.session import (
    Plan,
    Session,
    is_kept,
    kept_status,
    plan_point,
)

INTERRUPTED = 130
# The choices of hydra/launcher that need a package, and its plugin for Hydra.
_PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
# Classes of launchers that give a sweep up when they lose a process, and have it on this machine;
# Ray replaces a process by itself until it has done so too often, or cannot start one in time.
_GIVE_UP = ("JoblibLauncher", "LocalLauncher", "RayLauncher")
_QUEUES = ("SlurmLauncher",)
_MOST_LAUNCHES = 3
_GPUS = "CUDA_VISIBLE_DEVICES"
_GPUS_SEEN = "VLM_PROFILING_GPUS_SEEN"
_ALL = "all"
_LONGEST_COMPLAINT = 300
_QUOTING = """allowed is key=value, with other than plain letters in quotes: 'key="value"'"""

# The launchers' configurations stand under the names of those that come with their packages.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


@dataclass(kw_only=True)
class _Sweep:
    """What the jobs of one sweep share when they run in this process."""

    session: Session | None = None


_current = _Sweep()


def read_config(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain values, without Hydra's own part."""
    return to_plain(mask_config(config))


def to_plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def mask_config(config: DictConfig) -> DictConfig:
    names = [str(name) for name in config if name not in ("hydra", "experiment")]
    return OmegaConf.masked_copy(config, names)


def run_sweep(
    jobs: Sequence[Sequence[str]],
    configs: Sequence[Mapping[str, Any]],
    launcher: Launcher,
) -> int:
    """All the points of a sweep, those of one model together; the exit status."""
    plans = [plan_point(config) for config in configs]
    order = order_for_loading([plan.point for plan in plans])
    ordered = [plans[i] for i in order]
    announce(ordered)
    if configs[0]["dry"]:
        return list_points(ordered)
    with _session(total=len(jobs)) as session:
        arranged = [jobs[i] for i in order]
        # Hydra loads its plugins a second time, so that the class itself is never the same.
        if type(launcher).__name__ == "BasicLauncher":
            launcher.launch(arranged, initial_job_idx=0)
            totals = session.totals()
        else:
            _launch(arranged, ordered, launcher, session)
            totals = session.counts()
    conclude(ordered, session, totals=totals)
    return session.exit_status(single=False)


def _launch(
    jobs: Sequence[Sequence[str]],
    plans: Sequence[Plan],
    launcher: Launcher,
    session: Session,
) -> None:
    """Have a launcher run jobs in other processes; what it loses with one is put to it again."""
    engine = type(launcher).__name__
    _prepare_environment(engine)
    again = engine in _GIVE_UP and all(plan.point.resume for plan in plans)
    left = list(range(len(jobs)))
    for _ in range(_MOST_LAUNCHES if again else 1):
        try:
            results = launcher.launch([jobs[i] for i in left], initial_job_idx=0)
        except Exception as error:  # each engine has its own way to say that it lost a process
            session.progress.note(f"{engine} broke off: {_one_line(error)}")
        else:
            _take_over(session, results)
            return
        there = [i for i in left if again and is_kept(plans[i])]
        session.statuses += [str(kept_status(plans[i])) for i in there]
        left = [i for i in left if i not in there]
    if left:
        session.statuses += [FAILED] * len(left)
        session.progress.note(
            f"what became of {len(left)} points is not known; jobs that were submitted may still"
            " run, and the same command goes on from what they leave"
        )


def _prepare_environment(engine: str) -> None:
    """Let processes that start elsewhere find the code and the GPUs, and tell nobody of it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What a queue gives to a job is for the queue to say.
    if engine not in _QUEUES:
        os.environ[_GPUS_SEEN] = os.environ.get(_GPUS, _ALL)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [str(PROJECT), *(folder for folder in before if folder != str(PROJECT))]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))


def _take_over(session: Session, results: Sequence[JobReturn]) -> None:
    """Statuses of jobs that ran in other processes, where nobody counted them."""
    for result in results:
        if result.status == JobStatus.COMPLETED:
            session.statuses.append(str(result.return_value))
        else:
            session.progress.note(f"a job broke off: {_complaint(result)}")
            session.statuses.append(FAILED)


def _complaint(result: JobReturn) -> str:
    # Where a job failed, asking for the value prints a heading and raises.
    with redirect_stderr(io.StringIO()):
        try:
            return str(result.return_value)
        except Exception as error:  # whatever went wrong in the other process
            return _one_line(error)


def _one_line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_COMPLAINT else f"{text[:_LONGEST_COMPLAINT]}…"


def run_job(config: DictConfig) -> str:
    """What Hydra calls for each point; the status of the point is what the job returns."""
    elsewhere = _current.session is None and _is_sweep()
    if elsewhere:
        _go_home()
        _see_gpus()
    try:
        plan = plan_point(read_config(config))
    except (ConfigError, OmegaConfBaseException) as error:
        if elsewhere:
            # Every engine hands an exception to whoever launched, and hardly any an exit.
            raise
        # As an exception it would pass through Hydra, which adds lines of its own.
        refuse(error if isinstance(error, ConfigError) else explain(error))
    if _current.session is not None:
        return _current.session.run(plan).status
    return _run_alone(plan, in_sweep=elsewhere, dry=bool(config.dry))


def _go_home() -> None:
    """Relative paths mean what they meant where the sweep was typed."""
    from hydra.core.hydra_config import HydraConfig

    os.chdir(HydraConfig.get().runtime.cwd)


def _see_gpus() -> None:
    """Some launchers hide all GPUs from a job that asked for none; `device` says what is used."""
    seen = os.environ.get(_GPUS_SEEN)
    if seen is None or os.environ.get(_GPUS) != "":
        return
    if seen == _ALL:
        del os.environ[_GPUS]
    else:
        os.environ[_GPUS] = seen


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _run_alone(plan: Plan, *, in_sweep: bool, dry: bool) -> str:
    if in_sweep and not dry:
        with _session(total=1) as session:
            return session.run(plan).status
    announce([plan])
    if dry:
        raise SystemExit(list_points([plan]))
    with _session(total=1) as session:
        session.run(plan)
    conclude([plan], session, totals=session.totals())
    raise SystemExit(session.exit_status(single=True))


@contextmanager
def _session(*, total: int) -> Iterator[Session]:
    """A session that an interruption ends without leaving a process or a torn file behind."""
    session = Session(total=total)
    _current.session = session
    try:
        with _interruptible():
            yield session
        session.close()
    except KeyboardInterrupt:
        session.abandon()
        session.progress.note(
            f"interrupted after {len(session.statuses)} of {total} points;"
            " the same command goes on from here"
        )
        raise SystemExit(INTERRUPTED) from None
    finally:
        session.abandon()
        _current.session = None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have a polite kill end a session as ^C does; some launchers run jobs beside the main thread,
    which alone may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def announce(plans: Sequence[Plan]) -> None:
    """What is about to run, how much of it is there already, and how long the rest will take."""
    for line in _weights_lines(plans):
        print(line, flush=True)
    if len(plans) > 1:
        missing = [plan.point for plan in plans if not is_kept(plan)]
        kept = len(plans) - len(missing)
        line = f"{len(plans)} points, {kept} of them there already"
        expected_s = _forecast(plans).expect_all_s(missing)
        if expected_s is not None:
            line += f", the rest about {show_duration(expected_s)} (from the records at hand)"
        print(line, flush=True)


def list_points(plans: Sequence[Plan]) -> int:
    """The points in the order in which they would run; nothing is measured."""
    forecast = _forecast(plans)
    for plan in plans:
        expected_s = forecast.expect_s(plan.point)
        time = "time unknown" if expected_s is None else f"about {show_duration(expected_s)}"
        print(f"{plan.fingerprint} {plan.point.label()}: {'there' if is_kept(plan) else time}")
    return 0


def _forecast(plans: Sequence[Plan]) -> Forecast:
    return Forecast(sorted({Path(plan.point.results_dir) for plan in plans}))


def conclude(plans: Sequence[Plan], session: Session, *, totals: str) -> None:
    results_dirs = dict.fromkeys(plan.point.results_dir for plan in plans)
    print(totals)
    for folder in results_dirs:
        print(f"python -m profiling.report {folder} makes tables and pages of the records")
    for line in _weights_lines(plans):
        print(line, flush=True)


def _weights_lines(plans: Sequence[Plan]) -> list[str]:
    return list(dict.fromkeys(describe_weights(plan.point) for plan in plans))


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would take without a word, or break on: two models in one, no model."""
    for argument in arguments:
        if argument.startswith("--"):
            _check_flag(argument.partition("=")[0])
    options, others = get_args_parser().parse_known_args(list(arguments))
    if others:
        key, _, value = others[0].partition("=")
        if key.startswith("-"):
            _check_flag(key)
        raise ConfigError(key, value, "allowed in one row with the others, before or behind flags")
    _check_commands(options)
    for argument in options.overrides:
        key, _, value = argument.partition("=")
        if key.lstrip("+~") == "hydra/launcher":
            _check_launcher(value)
        if not key.lstrip("+~"):
            raise ConfigError(key, value, f"allowed are {', '.join(ROOT_KEYS)}")
        group, _, inner = key.partition(".")
        if group not in GROUPS:
            continue
        if inner == "name":
            raise ConfigError(key, value, f"choose it with {group}={value}")
        if not inner and (
            value in ("", "null", "[]") or (value[0] == "[" and group in SINGLE_GROUPS)
        ):
            raise ConfigError(key, value, describe_options(group))


def _check_launcher(name: str) -> None:
    plugin = _PLUGINS.get(name)
    if plugin is None or find_spec(f"hydra_plugins.{plugin}") is not None:
        return
    extra = "ray" if "ray" in plugin else "launchers"
    command = f"pip install -r requirements-{extra}.txt -c constraints.txt"
    raise ConfigError("hydra/launcher", name, f"allowed once it is installed: {command}")


def _check_flag(flag: str) -> None:
    known = [one for one in get_args_parser()._option_string_actions if one.startswith("--")]
    if not any(one.startswith(flag) for one in known):
        raise ConfigError(flag, "", f"unknown; allowed are {', '.join(known)}")


def _check_commands(options: Namespace) -> None:
    """Of what Hydra can be told to do, one at a time."""
    names = ("run", "multirun", "cfg", "info", "shell_completion")
    chosen = [name for name in names if getattr(options, name) not in (None, False)]
    if len(chosen) > 1:
        first, other = (f"--{name.replace('_', '-')}" for name in chosen[:2])
        allowed = f"allowed without {first}; what lists the points of a sweep is dry=true"
        raise ConfigError(other, getattr(options, chosen[1]), allowed)
    if options.resolve and not (options.cfg or options.help):
        raise ConfigError("--resolve", True, "allowed beside --cfg or --help")


def explain(error: Exception) -> str:
    """Hydra's complaint as one line that names the key, the value and what is allowed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read: {text}; {_QUOTING}"
    unknown = re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]*)'", text)
    if unknown:
        group, value = unknown.groups()
        return f"{group}={value}: {_describe_choices(group, lines[1:])}"
    if text.startswith("Could not override '"):
        key = text.split("'")[1]
        return f"{_as_typed(key)}: unknown key; allowed are {', '.join(keys_beside(key))}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{_as_typed(error.full_key)}: {text}; allowed is a value"
    return " ".join(lines)


def _as_typed(key: str) -> str:
    return next((a for a in sys.argv[1:] if a.lstrip("+~").startswith(f"{key}=")), key)


def _describe_choices(group: str, available: Sequence[str]) -> str:
    if group in (*GROUPS, "experiment"):
        return describe_options(group)
    listed = [line for line in available if re.fullmatch(r"\w+", line)]
    return f"allowed is one of {', '.join(listed)}"
