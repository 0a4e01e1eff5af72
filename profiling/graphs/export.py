"""Exports a vision part with its projector as an ONNX graph for pictures of any size."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import opset18
from torch import Tensor, nn
from torch.func import functional_call

from profiling.errors import require_one_of, require_whole
from profiling.graphs.check import check_export, in_single_precision, write_check
from profiling.graphs.choices import LAYOUTS
from profiling.graphs.feeds import export_sizes, feeds_of, noise
from profiling.graphs.kernels import has_kernels
from profiling.graphs.layouts import merge_parts, simplify_file
from profiling.models.family import Family
from profiling.models.model import Model
from profiling.models.patch_product import PatchProduct
from profiling.models.tower import PatchTower, VisionTower, written_out_attention
from profiling.parts.artifacts import locked, remove_leftovers, unfinished_folder
from profiling.parts.build_cost import BuildCost
from profiling.runtimes.onnxruntime import find_provider

MODEL_FILE = "vision_model.onnx"
HIDDEN, OUTPUT = "hidden", "embeddings"
# The exporter notes paths of this machine at each node, which also take two fifths of the file.
_OF_THIS_MACHINE = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")
# From 23 on attention is one operator, which the runtime supports with some masks only.
_OPSET = 18


def export_vision(
    model: Model, folder: Path, *, layout: str, parts: int, simplify: bool, provider: str | None
) -> Path:
    """Write `vision_model.onnx` with its weights and the record of its check; return its path.

    `parts` writes that many files by ranges of blocks, and a graph that joins them and reads the
    same weights. `half` stores half precision: bf16 for a bf16 model, else fp16. `provider` (None:
    that of the device) checks the graph and will run it. A file that does not match the network is
    deleted.
    """
    require_one_of("layout", layout, LAYOUTS)
    require_whole("parts", parts, at_least=1)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), unfinished_folder(folder, name="onnx") as made:
        remove_leftovers(folder)
        with BuildCost() as built, in_single_precision(model):
            count = parts if layout == "parts" else 1
            computed = computing_dtype(model, layout, provider)
            files = _export_files(model, made, layout, count, simplify, computed)
            record = check_export(
                model,
                files,
                layout=layout,
                stored=half_dtype(model, layout),
                computed=computed,
                provider=provider,
            )
        cost = {"make_s": built.make_s, "make_peak_bytes": built.make_peak_bytes}
        write_check(made, {**record, **cost, "simplified": simplify})
        _move(made, folder)
    return folder / MODEL_FILE


def half_dtype(model: Model, layout: str) -> torch.dtype:
    """The dtype that a layout stores."""
    if layout != "half":
        return torch.float32
    return torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16


def computing_dtype(model: Model, layout: str, provider: str | None) -> torch.dtype:
    """The dtype that a layout computes in: bf16 only if the provider supports it, else fp32."""
    stored = half_dtype(model, layout)
    if stored != torch.bfloat16 or has_kernels(find_provider(provider, str(model.device)), stored):
        return stored
    return torch.float32


def _move(made: Path, folder: Path) -> None:
    """Move the graph last, so that a graph is never without its weights."""
    for old in folder.glob("vision_model.*"):
        old.unlink()
    for path in sorted(made.iterdir(), key=lambda path: path.suffix == ".onnx"):
        path.replace(folder / path.name)


def _export_files(
    model: Model, folder: Path, layout: str, parts: int, simplify: bool, computed: torch.dtype
) -> list[Path]:
    """The files of a layout; the graph that joins several is the last one."""
    tower = model.family.layout.tower(model.network).eval()
    store = half_dtype(model, layout)
    if computed != torch.float32:
        tower = narrowed(tower, computed)
    with written_out_attention(tower):
        files = [
            _export_stage(stage, feeds, folder / name)
            for stage, feeds, name in _stages(
                model.family, tower, parts, store, computed, model.device
            )
        ]
    if simplify:
        for path in files:
            simplify_file(path)
    return files if len(files) == 1 else [*files, merge_parts(files, folder / MODEL_FILE)]


def narrowed(tower: VisionTower, dtype: torch.dtype) -> VisionTower:
    """A copy in half precision; position angles are not parameters and stay unchanged."""
    copied = copy.deepcopy(tower)
    for parameter in copied.parameters():
        parameter.data = parameter.data.to(dtype)
    if dtype == torch.bfloat16 and isinstance(copied, PatchTower):
        # At this opset no convolution takes bf16.
        copied.patches = PatchProduct(convolution=copied.patches)
    return copied


class Stage(nn.Module):
    """The blocks `first` to `stop` - 1, with the input and output stages at the ends."""

    def __init__(self, tower: VisionTower, first: int, stop: int) -> None:
        super().__init__()
        self.starts, self.ends = first == 0, stop == len(tower.blocks)
        self.first, self.stop = first, stop
        self.tower = tower

    def forward(self, given: Tensor, *extras: Tensor) -> Tensor:
        hidden = self.tower.embed(given, *extras) if self.starts else given
        for index in range(self.first, self.stop):
            hidden = self.tower.run_block(index, hidden, *extras)
        return self.tower.finish(hidden) if self.ends else hidden


class StoredHalf(nn.Module):
    """Weights stored in half precision and computed in fp32."""

    def __init__(self, stage: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.stage, self.dtype = stage, dtype
        self.stored = nn.ParameterList(
            nn.Parameter(value.to(dtype), requires_grad=False) for value in stage.parameters()
        )

    def forward(self, given: Tensor, *extras: Tensor) -> Tensor:
        names = [name for name, _ in self.stage.named_parameters()]
        values = {name: v.float() for name, v in zip(names, self.stored, strict=True)}
        out: Tensor = functional_call(self.stage, values, (given.float(), *extras))
        return out.to(self.dtype)


def _stages(
    family: Family,
    tower: VisionTower,
    parts: int,
    store: torch.dtype,
    computed: torch.dtype,
    device: torch.device,
) -> Iterator[tuple[nn.Module, dict[str, Tensor], str]]:
    """Each part with the inputs for its export and its file name."""
    feeds = feeds_of(family, noise(family, export_sizes(family), seed=0, device=device))
    given = feeds.pop("pixel_values").to(store)
    bounds = _bounds(len(tower.blocks), parts)
    for number, (first, stop) in enumerate(bounds, start=1):
        stage: nn.Module = Stage(tower, first, stop)
        if store != computed:
            stage = StoredHalf(stage, store)
        name = "pixel_values" if first == 0 else HIDDEN
        file = f"vision_model.part{number}.onnx" if len(bounds) > 1 else MODEL_FILE
        yield stage, {name: given, **feeds}, file
        if stop < len(tower.blocks):
            with torch.inference_mode():
                given = stage(given, *feeds.values())


def _bounds(blocks: int, parts: int) -> list[tuple[int, int]]:
    """Ranges of blocks of nearly equal length; every part has a block."""
    count = max(1, min(parts, blocks))
    edges = [round(blocks * number / count) for number in range(count + 1)]
    return list(pairwise(edges))


def _export_stage(stage: nn.Module, feeds: Mapping[str, Tensor], path: Path) -> Path:
    inner = next(module for module in stage.modules() if isinstance(module, Stage))
    axes = {**inner.tower.axes, HIDDEN: inner.tower.hidden_axes}
    outputs = [OUTPUT if inner.ends else f"{HIDDEN}_out"]
    return write_graph(stage, feeds, axes=axes, outputs=outputs, path=path)


def write_graph(
    module: nn.Module,
    feeds: Mapping[str, Tensor],
    *,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    path: Path,
) -> Path:
    """Export a module that takes these inputs in order; `axes` are the dimensions that vary."""
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(feeds.values()),
            dynamo=True,
            dynamic_shapes=dynamic_shapes(module, [axes[name] for name in feeds]),
            input_names=list(feeds),
            output_names=list(outputs),
            opset_version=_OPSET,
            custom_translation_table={torch.ops.aten.softmax.int: _softmax},
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            for name in _OF_THIS_MACHINE:
                node.metadata_props.pop(name, None)
        program.save(str(path), external_data=True)
    return path


def _softmax(given: Any, dim: int, dtype: int = -1) -> Any:
    """A softmax in fp32 for every input dtype; the exporter's own keeps the input dtype."""
    op: Any = opset18
    soft = op.Softmax(op.Cast(given, to=onnx.TensorProto.FLOAT), axis=dim)
    return op.CastLike(soft, given) if dtype == -1 else op.Cast(soft, to=dtype)


def dynamic_shapes(module: nn.Module, shapes: Sequence[Mapping[int, Any]]) -> tuple[Any, ...]:
    """Dynamic dimensions in the form of the arguments: those of `*arguments` are a tuple."""
    taken = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not parameter.VAR_POSITIONAL for parameter in taken)
    given = [dict(shape) for shape in shapes]
    return (*given[:named], *([tuple(given[named:])] if given[named:] else []))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's logs and warnings."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Its trace of each step takes several times as long as the step.
    traces = logging.getLogger("torch.__trace")
    listeners, traces.handlers = traces.handlers, []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        traces.handlers = listeners
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
