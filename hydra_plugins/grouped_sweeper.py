"""The sweeper that Hydra calls for -m. Hydra accepts plugins from a folder of this name alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from profiling.sweep import read_config, run_sweep


class GroupedSweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's own sweeper, with every point checked first and points of one model together."""

    def sweep(self, arguments: list[str]) -> None:
        assert self.launcher is not None
        jobs = self._expand(arguments)
        configs = [self._compose(job) for job in jobs]
        raise SystemExit(run_sweep(jobs, configs, self.launcher))

    def _expand(self, arguments: Sequence[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, None)
        return jobs

    def _compose(self, job: Sequence[str]) -> dict[str, Any]:
        assert self.hydra_context is not None and self.config is not None
        loader = self.hydra_context.config_loader
        return read_config(loader.load_sweep_config(self.config, list(job)))
