"""Weights of the language part in 4 bits, scaled by what they are multiplied with (AWQ).

Before rounding, the columns of a weight that meet large activations are scaled up and the module
before is scaled down by as much: the function is the same, and rounding loses less where it matters
(Lin et al., MLSys 2024).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.calibration import Seen, record_inputs
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.errors import Unsupported
from profiling.models.family import Family
from profiling.models.grouped_linear import GroupedLinear, quantize_groups, stored_bits
from profiling.models.model import Model
from profiling.models.network import Layout
from profiling.models.quantization import (
    Quantization,
    QuantizedLayers,
    group_layers,
    quantized_share,
)
from profiling.models.quantizers import REFERENCE
from profiling.models.scaled_inputs import ScaledInput
from profiling.points.point import Point
from profiling.records import DERIVED, Reading, reading
from profiling.runtimes.offered import TEXT
from profiling.samples.calibration import SPLIT, calibration_samples
from profiling.samples.samples import Sample

_NAME = "awq"
# Channels that hardly any activation reaches would be divided by nearly nothing.
_LEAST_ACTIVATION = 1e-5


class Awq(Optimization):
    """Scales are searched on the calibration split of the point's own samples."""

    as_counted = False
    needs_dense = True
    changes = frozenset({TEXT})

    def __init__(
        self,
        *,
        kind: str,
        order: int,
        bits: int,
        group: int,
        steps: int,
        calibration: int,
        rows: int,
        seed: int,
    ) -> None:
        super().__init__(kind=kind, order=order)
        self.bits, self.group, self.steps = bits, group, steps
        self.calibration, self.rows, self.seed = calibration, rows, seed
        self._samples: list[Sample] = []
        self._side: int | None = None
        self._readings: list[Reading] = []
        self._dataset = ""

    def check_layout(self, layout: type[Layout]) -> None:
        if layout.scaled_inputs is Layout.scaled_inputs:
            raise Unsupported("which modules absorb the scales of this model's layers is not known")

    def check(self, point: Point) -> None:
        self._samples = calibration_samples(point, _NAME)
        self._side, self._dataset = point.img_size, point.dataset

    def stored_bits(self, family: Family) -> Mapping[str, float]:
        sizes = group_layers(family.empty_network(), family, self.group)
        return {name: stored_bits(self.bits, size) for name, size in sizes.items()}

    def apply(self, loaded: LoadedModel) -> None:
        model, begun = loaded.model, time.perf_counter()
        sizes = group_layers(model.network, model.family, self.group)
        scales = self._find_scales(model, sizes)
        for one, found in scales:
            one.multiply(model.network, found)
        for one, found in scales:
            one.absorb(model.network, found)
        for path, size in sizes.items():
            pack_layer(model.network, path, bits=self.bits, group=size)
        model.quantized = QuantizedLayers(
            quantization=Quantization(bits=self.bits, engine=REFERENCE),
            names=tuple(sizes),
            share=quantized_share(model.network, sizes),
            made_s=time.perf_counter() - begun,
            how=f"{self.bits} bits, groups of {self.group} or of the next smaller divisor",
        )
        self._readings = list(self._describe(sizes, scales))

    def _find_scales(
        self, model: Model, sizes: Mapping[str, int]
    ) -> list[tuple[ScaledInput, Tensor]]:
        """For each input, of those whose layers are all quantized, the scales of its channels."""
        inputs = [
            one
            for one in model.family.layout.scaled_inputs(model.network)
            if sizes.keys() >= set(one.layers)
        ]
        seen = record_inputs(
            model,
            self._samples,
            [one.layers[0] for one in inputs],
            side=self._side,
            rows=self.rows,
            seed=self.seed,
        )
        return [
            (one, self._search(model.network, one, seen.pop(one.layers[0]), sizes))
            for one in inputs
        ]

    def _search(
        self, network: Any, one: ScaledInput, seen: Seen, sizes: Mapping[str, int]
    ) -> Tensor:
        weights = [network.get_submodule(path).weight.float() for path in one.layers]
        round_trip = partial(quantize_groups, bits=self.bits, group=sizes[one.layers[0]])
        activations = one.mean_by_channel(seen.mean).clamp(min=_LEAST_ACTIVATION)
        given = seen.kept()
        best, least = torch.ones_like(activations), float("inf")
        for step in range(self.steps + 1):
            tried = balanced(activations ** (step / self.steps))
            error = output_error(weights, given, one.by_input(tried), round_trip)
            if error < least:
                best, least = tried, error
        return best

    def _describe(
        self, sizes: Mapping[str, int], scales: Sequence[tuple[ScaledInput, Tensor]]
    ) -> Iterator[Reading]:
        scaled = {path for one, _ in scales for path in one.layers}
        yield reading(
            metric="calibration_samples",
            value=len(self._samples),
            status=DERIVED,
            source=f"drawn from {self._dataset}/{SPLIT} with seed {self.seed}; scales were"
            f" searched for the inputs of {len(scaled)} of {len(sizes)} layers",
        )

    def readings(self) -> Iterator[Reading]:
        yield from self._readings


def balanced(scales: Tensor) -> Tensor:
    """Scales around one, so that what is stored neither overflows nor vanishes."""
    return scales / (scales.max() * scales.min()).sqrt()


def output_error(
    weights: Sequence[Tensor], given: Tensor, scales: Tensor, round_trip: Any
) -> float:
    """How far the layers' outputs are off, with their weights scaled, rounded and scaled back."""
    total = 0.0
    for weight in weights:
        changed = round_trip(weight * scales).dense() / scales - weight
        total += float((given @ changed.T).pow(2).sum())
    return total


def pack_layer(network: Any, path: str, *, bits: int, group: int) -> None:
    """Put the quantized weight of a layer in its place."""
    layer = network.get_submodule(path)
    grouped = quantize_groups(layer.weight, bits=bits, group=group)
    network.set_submodule(path, GroupedLinear(grouped, layer.bias).train(layer.training))


OPTIMIZATION = Awq
