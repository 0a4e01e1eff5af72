"""The sweeper that Hydra calls for -m. Hydra finds plugins only in a folder of this name."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from profiling.points.blocks import Values, unite
from profiling.points.configuration import mask_config, to_plain
from profiling.points.sweeping import check_sweeps
from profiling.runs.sweep import run_sweep


class GroupedSweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's own sweeper, with every point checked first and the points of a model together."""

    def __init__(
        self,
        *,
        max_batch_size: int | None,
        params: Mapping[str, Any] | None,
        blocks: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        super().__init__(max_batch_size, dict(params or {}))
        self._blocks = list((blocks or {}).values()) or [{}]
        self._composed: dict[tuple[str, ...], bytes] = {}
        self._parsed: dict[str, Override] = {}

    def sweep(self, arguments: list[str]) -> None:
        assert self.launcher is not None
        jobs = self._expand(arguments)
        configs = [self._compose(job) for job in jobs]
        raise SystemExit(run_sweep(jobs, configs, self.launcher))

    def _expand(self, arguments: Sequence[str]) -> list[list[str]]:
        return unite(
            self._read(self._parse_config()),
            [
                self._read(f"{key}={value}" for key, value in block.items())
                for block in self._blocks
            ],
            self._read(arguments),
        )

    def _read(self, arguments: Iterable[str]) -> Values:
        """The values of each key, as Hydra writes them."""
        values: dict[str, list[str]] = {}
        overrides = self._parse(list(arguments))
        check_sweeps(overrides)
        for override in overrides:
            (jobs,) = self.split_arguments([override], None)
            values[override.get_key_element()] = [assignment for (assignment,) in jobs]
        return values

    def _parse(self, arguments: list[str]) -> list[Override]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed: list[Override] = parser.parse_overrides(arguments)
        return parsed

    def _compose(self, job: Sequence[str]) -> dict[str, Any]:
        """The configuration of a job, composed anew only where a choice of files differs."""
        new = [assignment for assignment in job if assignment not in self._parsed]
        self._parsed.update(zip(new, self._parse(new), strict=True))
        choices = [one for one in job if self._is_choice(self._parsed[one])]
        config = self._compose_choices(tuple(choices))
        values = [self._parsed[one] for one in job if one not in choices]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return to_plain(config)

    def _is_choice(self, override: Override) -> bool:
        """Whether an override chooses a file and not a value."""
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        group = loader.repository.group_exists(override.key_or_group)
        return group or override.package is not None

    def _compose_choices(self, choices: tuple[str, ...]) -> DictConfig:
        """A new configuration; unpickling is several times as fast as copying."""
        assert self.hydra_context is not None and self.config is not None
        if choices not in self._composed:
            loader = self.hydra_context.config_loader
            composed = mask_config(loader.load_sweep_config(self.config, list(choices)))
            OmegaConf.set_struct(composed, True)
            self._composed[choices] = pickle.dumps(composed)
        config = pickle.loads(self._composed[choices])
        assert isinstance(config, DictConfig)
        return config
