"""The format of jax.export: StableHLO for each shape, and the weights that all of them take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy

from profiling.partition.converters.converter import Converter, Sizes, Source
from profiling.partition.saved_part import size_in
from profiling.runtimes.native.adapter import Array
from profiling.runtimes.native.jax_adapter import JaxAdapter
from profiling.runtimes.native.native_graph import NativeGraph


class JaxFormat(Converter):
    """A function for each shape, exported for the processor."""

    fixed = True
    needs = ("jax", "jaxlib", "flatbuffers")

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        # Without the folders of this machine, which it notes at each operation.
        jax.config.update("jax_hlo_source_file_canonicalization_regex", r".*[/\\]")
        graph = NativeGraph(part.graph, JaxAdapter())
        numbers = sorted(graph.parameters)
        weights = [graph.parameters[number] for number in numbers]
        numpy.savez(folder / f"{part.name}.npz", *map(numpy.asarray, weights))

        def compute(weights: Sequence[Array], *given: Array) -> Sequence[Array]:
            return graph.run(dict(zip(numbers, weights, strict=True)), *given)

        programs = []
        for number, one in enumerate(sizes, start=1):
            path = folder / f"{part.name}.{number}.stablehlo"
            shapes = [_shape_of(value, one) for value in part.told["inputs"]]
            exported = jax.export.export(jax.jit(compute), platforms=["cpu"])(
                [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in weights], *shapes
            )
            path.write_bytes(exported.serialize())
            programs.append({"file": path.name, "sizes": dict(one)})
        return {"programs": programs, "weights": f"{part.name}.npz"}


def _shape_of(value: Mapping[str, Any], sizes: Sizes) -> jax.ShapeDtypeStruct:
    shape = tuple(size_in(axis, sizes) for axis in value["shape"])
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(value["dtype"]))


CONVERTER = JaxFormat()
