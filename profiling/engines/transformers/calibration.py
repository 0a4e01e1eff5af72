"""What layers are given while a model answers the samples of a calibration split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.teacher import reference_nlls
from profiling.models.model import Model
from profiling.samples.samples import Sample


@dataclass(kw_only=True)
class Seen:
    """The inputs of one layer: the mean size of each channel over all, and some of them whole."""

    total: Tensor | None = None  # [width]
    count: int = 0
    rows: list[Tensor] = field(default_factory=list)
    # Of the sample that is being answered.
    present: list[Tensor] = field(default_factory=list)

    @property
    def mean(self) -> Tensor:
        assert self.total is not None
        return self.total / self.count

    def kept(self) -> Tensor:  # [rows, width]
        return torch.cat(self.rows).float()

    def add(self, given: Tensor) -> None:
        rows = given.detach().flatten(0, -2)
        size = rows.float().abs().sum(0)
        self.total = size if self.total is None else self.total + size
        self.count += len(rows)
        self.present.append(rows)

    def end_sample(self, at_most: int, generator: torch.Generator) -> None:
        """Keep a few inputs of the sample, drawn from all."""
        rows, self.present = torch.cat(self.present), []
        drawn = torch.randperm(len(rows), generator=generator)[:at_most]
        self.rows.append(rows[drawn.to(rows.device)])


def record_inputs(
    model: Model,
    samples: Sequence[Sample],
    paths: Sequence[str],
    *,
    side: int | None,
    rows: int,
    seed: int,
) -> dict[str, Seen]:
    """What the layers at these paths are given by prompts and references, sample by sample.

    About `rows` inputs of each are kept, as many of each sample.
    """
    generator = torch.Generator().manual_seed(seed)
    share = -(-rows // len(samples))
    with _watched(model.network, paths) as seen:
        for sample in samples:
            inputs = model.place(model.encode([model.prepare(sample, None)], side))
            reference_nlls(model, inputs, sample.references[:1], side=side, length=1)
            for one in seen.values():
                one.end_sample(share, generator)
    return seen


@contextmanager
def _watched(network: Any, paths: Sequence[str]) -> Iterator[dict[str, Seen]]:
    seen = {path: Seen() for path in paths}

    def look(one: Seen, _module: Any, args: tuple[Any, ...]) -> None:
        one.add(args[0])

    handles = [
        network.get_submodule(path).register_forward_pre_hook(partial(look, one))
        for path, one in seen.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
