"""Answers one question with a model: unchanged, in parts, and with its vision part as a graph."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.models.family import Family
from profiling.models.loading import LoadPlan, load_model
from profiling.models.weights import WeightsSource
from profiling.partition.measuring import measure
from profiling.partition.outcomes import Outcome
from profiling.parts.artifacts import locked, remove_leftovers, size_bytes
from profiling.parts.assembling import join, load_language, load_vision
from profiling.parts.cutting import (
    MANIFEST,
    PARTS,
    cut,
    cut_network,
    file_of,
    find_damage,
    read_manifest,
    write_pt,
)
from profiling.parts.parts_cache import digest_of, local_folder
from profiling.parts.reduced import replace_parts
from profiling.points.point import Point
from profiling.samples.samples import Sample


class RunFirst(RuntimeError):
    """Another mode has to run first; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The input shared by all modes of one command."""

    point: Point
    source: WeightsSource
    family: Family
    sample: Sample
    dtype: torch.dtype
    output: Path
    pt: bool
    quantize: bool
    onnx_layout: str
    parts: int
    simplify: bool
    engine: str | None
    prompt_lengths: Sequence[int]

    @property
    def device(self) -> torch.device:
        return torch.device(self.point.device)

    @property
    def onnx_folder(self) -> Path:
        return self.output / "onnx_model"

    @property
    def onnx_file(self) -> Path:
        return self.onnx_folder / "vision_model.onnx"


def run_original(task: Task) -> Outcome:
    """The library's own `generate` on the whole model."""

    def load() -> LoadedModel:
        return LoadedModel(model=load_model(task.point, LoadPlan(dtype=task.dtype)))

    size = size_bytes(local_folder(task.source)) if task.source.values == "stored" else 0
    return _measure("original", task, load, size)


def run_split(task: Task) -> Outcome:
    """Both parts from their own files, the language part asking the vision part."""
    ensure_parts(task)

    def load() -> LoadedModel:
        given: dict[str, Any] = {
            "family": task.family,
            "dtype": task.dtype,
            "device": task.device,
        }
        loaded = LoadedModel(
            model=join(load_vision(task.output, **given), load_language(task.output, **given))
        )
        loaded.absorb_projector()
        return loaded

    present = [file_of(task.output, part) for part in PARTS if file_of(task.output, part).is_file()]
    return _measure("split_native", task, load, sum(map(size_bytes, present)))


def _measure(mode: str, task: Task, load: Callable[[], LoadedModel], disk_bytes: int) -> Outcome:
    found = measure(mode, load, point=task.point, sample=task.sample)
    return dataclasses.replace(found, disk_bytes=disk_bytes)


def convert(task: Task) -> Outcome:
    """Export the vision part as a graph and answer with it."""
    ensure_parts(task)
    export(task, folder=task.onnx_folder, layout=task.onnx_layout)
    return dataclasses.replace(run_onnx(task), mode="convert_onnx")


def export(task: Task, *, folder: Path, layout: str) -> Path:
    """Export the vision part, loaded from its own file only."""
    from profiling.graphs.export import export_vision

    vision = load_vision(
        task.output, family=task.family, dtype=task.dtype, device=torch.device("cpu")
    )
    path = export_vision(
        vision,
        folder,
        layout=layout,
        parts=task.parts,
        simplify=task.simplify,
        provider=None,
    )
    if task.quantize:
        from profiling.graphs.quantize import quantize_vision

        quantize_vision(vision, path, kind="int8", provider=None)
    return path


def run_onnx(task: Task) -> Outcome:
    """The language part with the graph instead of the vision part."""
    from profiling.graphs.vision_chain import find_change
    from profiling.graphs.vision_chain import load_vision as load_graph

    if not task.onnx_file.is_file():
        raise RunFirst(f"there is no {task.onnx_file}: run --mode convert_onnx first")
    change = find_change(task.onnx_file)
    if change is not None:
        raise RunFirst(f"{task.onnx_file}: {change}: run --mode convert_onnx again")

    ensure_parts(task)

    def load() -> LoadedModel:
        model = load_language(task.output, family=task.family, dtype=task.dtype, device=task.device)
        graph = load_graph(
            task.onnx_file,
            model=model,
            threads=torch.get_num_threads(),
            provider=None,
            provider_options={},
        )
        replace_parts(model.network, {task.family.layout.parts.vision: graph})
        loaded = LoadedModel(model=model)
        loaded.absorb_projector()
        return loaded

    size = size_bytes(task.onnx_folder) + size_bytes(file_of(task.output, "language"))
    return _measure("run_onnx", task, load, size)


def ensure_parts(task: Task) -> None:
    """Split the checkpoint unless the folder already has the parts of these weights."""
    digest = digest_of(task.source, task.point.seed, task.dtype)
    task.output.mkdir(parents=True, exist_ok=True)
    with locked(task.output):
        remove_leftovers(task.output)
        if not _has_parts(task.output, digest):
            _cut(task, digest)
        if task.pt and not file_of(task.output, "vision").with_suffix(".pt").is_file():
            write_pt(task.output)


def _cut(task: Task, digest: str) -> None:
    # Files made from other weights must not be reused.
    (task.output / MANIFEST).unlink(missing_ok=True)
    for stale in (file_of(task.output, "vision").with_suffix(".pt"), task.onnx_file):
        stale.unlink(missing_ok=True)
    described: dict[str, Any] = {
        "family": task.family,
        "model": task.point.model,
        "digest": digest,
        "embedding": False,
    }
    if task.source.values == "stored":
        cut(local_folder(task.source), task.output, **described)
        return
    model = load_model(task.point, LoadPlan(dtype=task.dtype))
    cut_network(model.network, task.output, processor=Path(task.source.processor), **described)


def _has_parts(folder: Path, digest: str) -> bool:
    if not (folder / MANIFEST).is_file():
        return False
    try:
        manifest = read_manifest(folder)
        damage = find_damage(folder, manifest)
        is_same = manifest["weights_digest"] == digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        damage, is_same = f"{MANIFEST} cannot be read", True
    if damage is not None and is_same:
        print(f"{folder}: {damage}: the checkpoint is cut again", file=sys.stderr)
    return is_same and damage is None
