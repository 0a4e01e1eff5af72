"""Parts of the library's network as graphs in a runtime, whose weights torch never loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from profiling.costs.twin import Twin
from profiling.engines.engine import Passes
from profiling.engines.transformers import graph_index
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.engines.transformers.runtime_decoder import (
    RuntimeDecoder,
    RuntimeEncoder,
    skip_to_decoder,
)
from profiling.errors import Unsupported
from profiling.graphs.layouts import size_of
from profiling.graphs.text_graphs import RECORD_FILE
from profiling.graphs.vision_chain import (
    OnnxVision,
    ProgramVision,
    put_vision,
    read_check,
    read_record,
)
from profiling.models.family import Family
from profiling.models.loading import LoadPlan, find_family
from profiling.models.model import Model
from profiling.models.text_parts import DECODER, ENCODER
from profiling.parts.artifacts import size_bytes
from profiling.parts.reduced import changed_class, replace_parts
from profiling.points.point import Point
from profiling.records import Reading
from profiling.runtimes.offered import TEXT, VISION
from profiling.runtimes.runtime import Program, Runtime, RuntimeAbsent, find_runtime


class RuntimeParts(Optimization):
    """Plans a network without the parts that a runtime runs, and puts graphs in their places."""

    as_counted = False
    changes = frozenset()

    def __init__(self, point: Point) -> None:
        super().__init__(kind="engine", order=0)
        self.point = point
        self.parts = graph_index.wanted_parts(point)
        self._placeholders: dict[str, Any] = {}
        self._runtime: Runtime | None = None
        # The shapes of batches that code was compiled for.
        self._settled: set[Hashable] = set()

    def check(self, point: Point) -> None:
        settings = point.engine_settings
        try:
            find_runtime(settings["runtime"]).check(point.device, settings)
        except RuntimeAbsent as problem:
            raise Unsupported(str(problem)) from None

    def check_beside(self, name: str, optimization: Optimization) -> None:
        """Refuse an optimization of a torch module that is not there."""
        both = sorted(set(self.parts) & optimization.changes)
        if both:
            raise Unsupported(
                f"optimization={name} changes the {both[0]} part in torch, and"
                f" engine={self.point.engine} runs it as a graph"
            )

    def import_libraries(self) -> None:
        """Make missing graphs too, so that loading is all that is timed."""
        kind = find_runtime(self.point.engine_settings["runtime"])
        kind.prepare_process(device=self.point.device, threads=self.point.threads)
        graph_index.ensure(self.point)

    def plan(self, plan: LoadPlan) -> LoadPlan:
        layout = find_family(self.point.model).layout.parts
        vision = (layout.vision, *layout.projector) if VISION in self.parts else ()
        return dataclasses.replace(plan, reduce=self._reduce, whole=(*plan.whole, *vision))

    def _reduce(self, family: Family) -> type[Any]:
        kind = changed_class(family.layout.network_class, partial(self._empty, family))
        # The library would list the weights that nobody reads.
        gone = [path.replace(".", r"\.") for path in self._places(family)]
        gone += [name.replace(".", r"\.") for name in self._gone_parameters(family)]
        kind._keys_to_ignore_on_load_unexpected = [rf"^(model\.)?{path}" for path in gone]
        return kind

    def _gone_parameters(self, family: Family) -> tuple[str, ...]:
        return family.layout.vision_parameters if VISION in self.parts else ()

    def _places(self, family: Family) -> list[str]:
        layout = family.layout
        text = [layout.decoder_stack, layout.parts.head, *filter(None, [layout.parts.text_encoder])]
        return [
            *(layout.vision_paths if VISION in self.parts else ()),
            *(text if TEXT in self.parts else ()),
        ]

    def _empty(self, family: Family, network: Any) -> None:
        """Take out the parts; what holds a part's place keeps the embedding that it shares."""
        if VISION in self.parts:
            replace_parts(network, family.layout.stand_ins(torch.get_default_dtype()))
        if TEXT not in self.parts:
            return
        layout = family.layout
        for path in filter(None, [layout.decoder_stack, layout.parts.text_encoder]):
            replace_parts(network, {path: _Placeholder(network.get_submodule(path))})
        replace_parts(network, {layout.parts.head: nn.Identity()})

    def apply(self, loaded: LoadedModel) -> None:
        try:
            self._put_graphs(loaded, graph_index.ensure(self.point))
        except RuntimeAbsent as problem:
            # An operator that the runtime lacks.
            raise Unsupported(str(problem)) from None

    def _put_graphs(self, loaded: LoadedModel, graphs: graph_index.Graphs) -> None:
        settings = self.point.engine_settings
        kind = find_runtime(settings["runtime"])
        threads = torch.get_num_threads()
        # Once more does nothing; not everybody who loads a model has imported its libraries first.
        kind.prepare_process(device=self.point.device, threads=threads)
        self._runtime = runtime = kind.of(
            device=self.point.device, threads=threads, settings=settings
        )
        if graphs.vision is not None:
            _put_vision(loaded, graphs.vision, runtime.open(graphs.vision))
        if graphs.text is not None:
            files = (
                *graphs.text.glob("*.onnx"),
                *graphs.text.glob(f"*{runtime.suffix or '.onnx'}"),
            )
            paths = {path.stem: path for path in files}
            used = {name: paths[name] for name in (DECODER, ENCODER) if name in paths}
            programs = {name: runtime.open(path) for name, path in used.items()}
            _put_text(loaded.model, programs, {name: size_of(path) for name, path in used.items()})
            _add_cost(loaded, graphs.text, read_record(graphs.text / RECORD_FILE))
            loaded.computes_in = runtime.computes_in(graphs.precision)
            # Keys and values are arrays in single precision, whatever the model's dtype is.
            loaded.cache_bits = 32
        loaded.stored_in |= {graphs.precision, runtime.computes_in(graphs.precision)}
        loaded.replaced_weights = partial(
            replaced_weights,
            loaded.model,
            stored=graphs.precision,
            computed=runtime.computes_in(graphs.precision),
        )

    def settle(self, workload: Passes) -> None:
        """Have every shape of the workload compiled before anything is measured."""
        if self._runtime is None or not self._runtime.compiles:
            return
        for index in range(len(workload.batches)):
            shapes = (_shapes_of(workload.encode(index)), workload.max_new_tokens)
            if shapes not in self._settled:
                workload.run(index)
                self._settled.add(shapes)
        self._runtime.begin_measuring()

    def readings(self) -> Iterator[Reading]:
        return iter(()) if self._runtime is None else self._runtime.readings()


def _shapes_of(inputs: Mapping[str, Tensor]) -> Hashable:
    """What the compiled code for a batch depends on.

    As many patches in other rows and columns may have other windows, whose indices have shapes.
    """
    shapes = [(name, tuple(value.shape)) for name, value in sorted(inputs.items())]
    grids = [
        str(value.tolist()) for name, value in sorted(inputs.items()) if name.endswith("_grid_thw")
    ]
    return (*shapes, *grids)


class _Placeholder(nn.Module):
    """Holds the place of a part while weights are read: its embedding is the network's."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.config, self.embed_tokens = original.config, original.embed_tokens

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens  # type: ignore[no-any-return]

    def set_input_embeddings(self, table: nn.Module) -> None:
        self.embed_tokens = table


def _put_vision(loaded: LoadedModel, path: Path, program: Program) -> None:
    model = loaded.model
    layout = model.family.layout
    stand_in: Any = layout.stand_ins(model.dtype)[layout.parts.vision]
    vision = OnnxVision(
        chain=ProgramVision(program),
        family=model.family,
        stand_in=stand_in,
        dtype=model.dtype,
        held_bytes=size_of(path),
    )
    put_vision(model, vision)
    loaded.absorb_projector()
    _add_cost(loaded, path.parent, read_check(path))


def _add_cost(loaded: LoadedModel, folder: Path, record: Mapping[str, Any]) -> None:
    loaded.build.add(
        make_s=record["make_s"],
        make_peak_bytes=record["make_peak_bytes"],
        artifact_bytes=size_bytes(folder),
    )


def _put_text(model: Model, programs: Mapping[str, Program], sizes: Mapping[str, int]) -> None:
    layout, network = model.family.layout, model.network
    encoder = None
    if layout.parts.text_encoder is not None:
        held: Any = network.get_submodule(layout.parts.text_encoder)
        encoder = RuntimeEncoder(
            programs[ENCODER],
            config=held.config,
            table=held.embed_tokens,
            held_bytes=sizes[ENCODER],
        )
        replace_parts(network, {layout.parts.text_encoder: encoder})
    place: Any = network.get_submodule(layout.decoder_stack)
    decoder = RuntimeDecoder(
        programs[DECODER],
        config=place.config,
        table=place.embed_tokens,
        shape=layout.cache_shape,
        axes=layout.position_axes,
        encoder=encoder,
        held_bytes=sizes[DECODER],
    )
    replace_parts(network, {layout.decoder_stack: decoder})
    skip_to_decoder(network.get_submodule(layout.generating), decoder)


def replaced_weights(model: Model, *, stored: str, computed: str) -> dict[str, int]:
    """Bytes in memory of the weights that graphs hold, by name; none where they are not known."""
    if stored in ("int8", "int4") or computed != "float32":
        return {}
    # In half precision they are stored only: the runtime computes with single precision.
    whole = Twin(family=model.family, attention="sdpa").network.named_parameters()
    own = {name for name, _ in model.network.named_parameters()}
    return {name: value.numel() * 4 for name, value in whole if name not in own}
