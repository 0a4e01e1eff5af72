"""Exports the text parts of a model and compares each graph with the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from profiling.graphs.check import LIMITS, ExportFailed, distance, require_form
from profiling.graphs.choices import WHOLE
from profiling.graphs.export import write_graph
from profiling.graphs.layouts import delete_file, size_of
from profiling.graphs.precise import DoublePrecision
from profiling.graphs.quantize import rewrite_weights
from profiling.models.model import Model
from profiling.models.text_parts import Lengths, TextPart
from profiling.models.tower import written_out_attention
from profiling.parts.artifacts import write_json
from profiling.parts.build_cost import BuildCost
from profiling.runtimes.onnxruntime import OnnxRuntime
from profiling.runtimes.runtime import Runtime

RECORD_FILE = "text_parts.check.json"
# No length is 1, which an export would treat as constant, and no two are equal.
EXPORTED = Lengths(batch=2, new=3, past=5, encoded=7)
# Prompts and steps, alone and in a batch with padding on the left, the cache empty to long.
CHECKED = (
    Lengths(batch=1, new=17, past=0, encoded=9),
    Lengths(batch=4, new=11, past=0, encoded=13),
    Lengths(batch=1, new=1, past=1, encoded=1),
    Lengths(batch=1, new=1, past=300, encoded=40),
    Lengths(batch=4, new=1, past=37, encoded=21),
    Lengths(batch=3, new=6, past=19, encoded=30),
)


class Runs(Protocol):
    """What a part is compared with: it takes arrays by their names."""

    @property
    def inputs(self) -> Iterable[str]: ...

    def run(self, feeds: Mapping[str, Any]) -> list[Any]: ...


def export_text(
    model: Model, folder: Path, *, names: Sequence[str], precision: str, provider: str | None
) -> None:
    """Write a graph for each named text part that the family has, and the record of their checks.

    Graphs take and return single precision; `precision` is that of the stored weights. A graph
    that does not match the network is deleted. `provider` (None: that of the device) checks them.
    """
    runtime = _checking(str(model.device), provider)
    record = export_parts(pick(model, names), folder, precision=precision, runtime=runtime)
    write_json(folder / RECORD_FILE, record)


def _checking(device: str, provider: str | None) -> OnnxRuntime:
    settings = {"provider": provider, "provider_options": None}
    return OnnxRuntime.of(device=device, threads=torch.get_num_threads(), settings=settings)


def export_parts(
    parts: Mapping[str, TextPart], folder: Path, *, precision: str, runtime: Runtime | None = None
) -> dict[str, Any]:
    """Write a graph for each part by its name; the record of their checks."""
    runtime = runtime or _checking("cpu", None)
    records: dict[str, Any] = {}
    with BuildCost() as cost:
        for name, part in parts.items():
            path = folder / f"{name}.onnx"
            with in_single_precision(part):
                _export(part.eval(), path)
                records[name] = check_text(part, path, precision=precision, runtime=runtime)
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    record = {"precision": precision, "parts": records, "versions": versions}
    costs = {"make_s": cost.make_s, "make_peak_bytes": cost.make_peak_bytes}
    return {**record, **costs}


def pick(model: Model, names: Sequence[str]) -> dict[str, TextPart]:
    """The named text parts, those that the family has."""
    parts = model.family.layout.text_parts(model.network)
    return {name: parts[name] for name in names if name in parts}


def _export(part: TextPart, path: Path) -> None:
    feeds = part.example(EXPORTED, torch.Generator().manual_seed(0))
    device = _device_of(part)
    placed = {name: value.to(device) for name, value in feeds.items()}
    with written_out_attention(part):
        write_graph(part, placed, axes=part.axes, outputs=part.outputs, path=path)


def _device_of(part: TextPart) -> torch.device:
    """The device of a part; one without weights runs on the CPU."""
    return next((p.device for p in part.parameters()), torch.device("cpu"))


@contextmanager
def in_single_precision(module: nn.Module) -> Iterator[None]:
    """Convert the parameters to fp32 in place, exactly, and restore them afterwards."""
    before = [(p, p.data) for p in module.parameters() if p.dtype != torch.float32]
    for parameter, data in before:
        parameter.data = data.float()
    try:
        yield
    finally:
        for parameter, data in before:
            parameter.data = data


def check_text(part: TextPart, path: Path, *, precision: str, runtime: Runtime) -> dict[str, Any]:
    """Compare the graph as it was exported, and again once its weights were rewritten."""
    try:
        require_form(path)
        found = compare_text(part, runtime.open(path))
        _require_near(path, found, LIMITS[torch.float32])
        record: dict[str, Any] = {"checked": found, "limit_relative_l2": LIMITS[torch.float32]}
        if precision != WHOLE:
            rewrite_weights(path, kind=precision)
            require_form(path)
            limit = _LIMITS_REWRITTEN.get(precision)
            rewritten = compare_text(part, runtime.open(path))
            _require_near(path, rewritten, limit)
            record = {"checked": rewritten, "limit_relative_l2": limit, "before": found}
    except BaseException:
        delete_file(path)
        raise
    return {**record, "bytes": size_of(path)}


# Quantized weights have no limit: their error depends on the values, and is in the record.
_LIMITS_REWRITTEN = {"float16": LIMITS[torch.float16], "bfloat16": 1e-1}


def compare_text(
    part: TextPart, program: Runs, checked: Sequence[Lengths] = CHECKED
) -> list[dict[str, Any]]:
    """The error of a graph to the part in double precision, at lengths not used for the export."""
    found = []
    precise = DoublePrecision(part)
    for seed, lengths in enumerate(checked, start=1):
        feeds = part.example(lengths, torch.Generator().manual_seed(seed))
        found.append({"lengths": vars(lengths), **_compare(part, precise, program, feeds)})
    return found


def _compare(
    part: TextPart, precise: DoublePrecision, program: Runs, feeds: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The largest error among the outputs, and that of the library's own single precision."""
    device = _device_of(part)
    placed = {name: value.to(device) for name, value in feeds.items()}
    right = precise.run(placed)
    with torch.inference_mode():
        own = part(*placed.values())
    arrays = {name: feeds[name].numpy() for name in program.inputs}
    made = [torch.from_numpy(array) for array in program.run(arrays)]
    errors = [distance(one, two) for one, two in zip(made, right, strict=True)]
    single = own if isinstance(own, tuple) else (own,)
    plain = [distance(one, two)["relative_l2"] for one, two in zip(single, right, strict=True)]
    worst = max(errors, key=lambda error: error["relative_l2"])
    return {**worst, "relative_l2_of_torch": max(plain)}


def _require_near(path: Path, found: list[dict[str, Any]], limit: float | None) -> None:
    for one in found:
        if limit is not None and not one["relative_l2"] <= limit:
            raise ExportFailed(
                f"{path.name} has a relative L2 error of {one['relative_l2']:.2g} to the network"
                f" in double precision at {one['lengths']}, allowed is {limit:g}: it was deleted"
            )
