"""A family of models: its processing, the layout of its network, and its costs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.initialization import no_init_weights

from profiling.errors import Unsupported
from profiling.models.costs import FamilyCosts
from profiling.models.network import Layout
from profiling.models.processing import Processing
from profiling.samples.samples import Sample

_TIMES = frozenset({"second_per_grid_ts"})


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family with a configuration and a loaded processor."""

    name: str
    config: Any
    processing: Processing
    layout: Layout
    costs: FamilyCosts

    def empty_network(self) -> Any:
        """The network without values, for its shapes."""
        with torch.device("meta"), no_init_weights():
            return self.layout.network_class._from_config(copy.deepcopy(self.config))


@dataclass(frozen=True, kw_only=True)
class FamilyDefinition:
    """The three classes of a family, before a configuration is read."""

    name: str
    processing: type[Processing]
    layout: type[Layout]
    costs: type[FamilyCosts]

    def check_shown(self, samples: Sequence[Sample]) -> None:
        """Raise Unsupported where a sample shows what a prompt of the family cannot."""
        kind = self.processing
        if kind.one_picture and any(len(sample.pictures) > 1 for sample in samples):
            raise Unsupported(f"model={self.name}: {kind.one_picture}")
        if kind.no_clip and any(sample.clip for sample in samples):
            raise Unsupported(f"model={self.name}: {kind.no_clip}")

    def load(
        self,
        *,
        config: Any,
        folder: Path | str,
        processor_options: Mapping[str, Any],
        prompt: str | None = None,
    ) -> Family:
        """The family with this configuration, and the processor from the folder."""
        processing = self.processing(
            config=config, folder=folder, options=processor_options, prompt=prompt
        )
        return Family(
            name=self.name,
            config=config,
            processing=processing,
            layout=self.layout(config=config),
            costs=self.costs(config=config),
        )


def placed(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The inputs on the device, floating-point values in the network's dtype.

    Times keep theirs: positions are computed from them.
    """
    return {
        name: value.to(device, dtype)
        if value.is_floating_point() and name not in _TIMES
        else value.to(device)
        for name, value in inputs.items()
        if isinstance(value, Tensor)
    }
