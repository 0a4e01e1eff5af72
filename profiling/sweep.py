"""From a command line to points: all of them checked before the first one runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from profiling.models.weights import describe_weights
from profiling.point import ConfigError, order_for_loading
from profiling.session import Plan, Session, plan_point

INTERRUPTED = 130
WRONG_CONFIGURATION = 2


@dataclass(kw_only=True)
class _Sweep:
    """What the jobs of one sweep share when they run in this process."""

    session: Session | None = None


_current = _Sweep()


def read_config(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain values, without Hydra's own part."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in ("hydra", "experiment")}


class GroupedSweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's own sweeper, with every point checked first and points of one model together."""

    def sweep(self, arguments: list[str]) -> None:
        jobs = self._expand(arguments)
        plans = [plan_point(self._compose(job)) for job in jobs]
        order = order_for_loading([plan.point for plan in plans])
        announce([plans[i] for i in order])
        with _session(total=len(jobs)) as session:
            assert self.launcher is not None
            results = self.launcher.launch([jobs[i] for i in order], initial_job_idx=0)
            _take_over(session, results)
        conclude([plans[i] for i in order], session)
        raise SystemExit(session.exit_status(single=False))

    def _expand(self, arguments: Sequence[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, None)
        return jobs

    def _compose(self, job: Sequence[str]) -> dict[str, Any]:
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, list(job))
        OmegaConf.set_struct(config, False)
        return read_config(config)


def _take_over(session: Session, results: Sequence[JobReturn]) -> None:
    """Statuses of jobs that a launcher ran in other processes."""
    if not session.statuses:
        session.statuses = [str(result.return_value) for result in results]


def run_job(config: DictConfig) -> str:
    """What Hydra calls for each point; the status of the point is what the job returns."""
    try:
        plan = plan_point(read_config(config))
    except ConfigError as error:
        # As an exception it would pass through Hydra, which adds lines of its own.
        print(error, file=sys.stderr)
        raise SystemExit(WRONG_CONFIGURATION) from None
    if _current.session is not None:
        return _current.session.run(plan).status
    return _run_alone(plan, in_sweep=_is_sweep())


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _run_alone(plan: Plan, *, in_sweep: bool) -> str:
    if in_sweep:
        with _session(total=1) as session:
            return session.run(plan).status
    announce([plan])
    with _session(total=1) as session:
        session.run(plan)
    conclude([plan], session)
    raise SystemExit(session.exit_status(single=True))


@contextmanager
def _session(*, total: int) -> Iterator[Session]:
    """A session that an interruption ends without leaving a process or a torn file behind."""
    session = Session(total=total)
    before = signal.signal(signal.SIGTERM, _interrupt)
    _current.session = session
    try:
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
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def announce(plans: Sequence[Plan]) -> None:
    for line in _weights_lines(plans):
        print(line, flush=True)


def conclude(plans: Sequence[Plan], session: Session) -> None:
    results_dirs = dict.fromkeys(plan.point.results_dir for plan in plans)
    print(session.totals())
    for folder in results_dirs:
        print(f"python -m profiling.report {folder} makes tables and pages of the records")
    for line in _weights_lines(plans):
        print(line, flush=True)


def _weights_lines(plans: Sequence[Plan]) -> list[str]:
    return list(dict.fromkeys(describe_weights(plan.point) for plan in plans))


def explain(error: Exception, config_keys: Mapping[str, object]) -> str:
    """Hydra's complaint as one line that names the key, the value and what is allowed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    options = [line for line in lines[1:] if "/" not in line and ":" not in line]
    if text.startswith("In '") and "Could not find" in text:
        group, _, value = text.partition("Could not find")[2].strip(" '\"").partition("/")
        return f"{group}={value}: allowed are {', '.join(options)}"
    if text.startswith("Could not override"):
        key = text.partition("'")[2].rpartition("'")[0]
        typed = next((a for a in sys.argv[1:] if a.lstrip("+~").startswith(f"{key}=")), key)
        return f"{typed}: unknown key; allowed are {', '.join(config_keys)}"
    return " ".join(lines)
