"""A model as one graph for each part, with a manifest: to be run without this project."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ValueInfoProto

from profiling.graphs.export import export_vision
from profiling.graphs.layouts import delete_file, values_of
from profiling.graphs.text_graphs import export_parts
from profiling.graphs.vision_chain import read_check
from profiling.models.family import Family
from profiling.models.model import Model
from profiling.models.sequence_parts import (
    FUSION,
    PICTURE_POSITIONS,
    TEXT_POSITIONS,
    Fusion,
    TextPositions,
)
from profiling.models.text_parts import TextPart
from profiling.parts.artifacts import write_json

MANIFEST_FILE = "manifest.json"
VISION_ENCODER = "vision_encoder"


def write_parts(model: Model, folder: Path, *, facts: Mapping[str, Any]) -> Path:
    """Export every part that the family has, and the manifest; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    vision = export_vision(model, folder, layout="single", parts=1, simplify=False, provider=None)
    checked = {VISION_ENCODER: read_check(vision)["checked"]}
    rename_graph(vision, folder / f"{VISION_ENCODER}.onnx")
    texts = model.family.layout.text_parts(model.network)
    record = export_parts({**texts, **joining_parts(model)}, folder, precision="float32")
    checked |= {name: part["checked"] for name, part in record["parts"].items()}
    for left in folder.glob("*.check.json"):
        left.unlink()
    parts = {
        name: {**describe(folder / f"{name}.onnx"), "checked": checked[name]} for name in checked
    }
    write_json(folder / MANIFEST_FILE, {**facts, "parts": parts})
    return folder / MANIFEST_FILE


def joining_parts(model: Model) -> dict[str, TextPart]:
    """What joins pictures and text: the fusion, and the positions where they are inputs."""
    family: Family = model.family
    layout, token = family.layout, family.processing.image_token_id
    width = model.network.get_input_embeddings().embedding_dim
    parts: dict[str, TextPart] = {FUSION: Fusion(token=token, width=width)}
    if layout.position_axes:
        parts[TEXT_POSITIONS] = TextPositions(axes=layout.position_axes)
    placed = layout.picture_positions(token)
    if placed is not None:
        parts[PICTURE_POSITIONS] = placed
    return parts


def rename_graph(path: Path, target: Path) -> None:
    """Rename a graph and its weights, which it names."""
    graph = onnx.load(str(path), load_external_data=False)
    delete_file(target)
    for value in graph.graph.initializer:
        for entry in value.external_data:
            if entry.key == "location":
                entry.value = values_of(target).name
    if values_of(path).is_file():
        values_of(path).rename(values_of(target))
    target.write_bytes(graph.SerializeToString())
    path.unlink()


def describe(path: Path) -> dict[str, Any]:
    """Inputs, outputs, operator set and digests of a graph."""
    graph = onnx.load(str(path), load_external_data=False)
    files = [one for one in (path, values_of(path)) if one.is_file()]
    return {
        "file": path.name,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import},
        "inputs": [_describe_value(value) for value in graph.graph.input],
        "outputs": [_describe_value(value) for value in graph.graph.output],
        "files": {one.name: {"bytes": one.stat().st_size, "sha256": _digest(one)} for one in files},
    }


def _describe_value(value: ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    shape = [
        size.dim_value if size.HasField("dim_value") else size.dim_param for size in kind.shape.dim
    ]
    name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    dynamic = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    return {"name": value.name, "dtype": name, "shape": shape, "dynamic_axes": dynamic}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
