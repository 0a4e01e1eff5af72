"""One question taken through a model: as it was, in parts, and with its vision part as a graph."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from profiling.models.family import Family
from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model, Prepared
from profiling.models.weights import WeightsSource
from profiling.partition.outcomes import Outcome, Passage
from profiling.partition.watching import Memory, Stopwatch
from profiling.parts.artifacts import locked, size_bytes
from profiling.parts.assembling import (
    answer_from,
    embed,
    load_language,
    load_vision,
)
from profiling.parts.cutting import (
    PARTS,
    TIES,
    cut,
    cut_network,
    file_of,
    read_ties,
    write_pt,
)
from profiling.parts.parts_cache import digest_of, local_folder
from profiling.parts.reduced import replace_parts
from profiling.points.point import Point
from profiling.samples.samples import Sample

Loaded = TypeVar("Loaded")


class RunFirst(RuntimeError):
    """Something has to be made before this can run: one line that says what to run."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the modes of one command have in common."""

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
    with Memory(device=task.device) as memory:
        model, load_s = _timed(lambda: load_model(task.point, LoadPlan(dtype=task.dtype)))
        passage = _ask(task, model)
    size = size_bytes(local_folder(task.source)) if task.source.values == "stored" else 0
    return _outcome("original", load_s, passage, memory, size)


def run_split(task: Task) -> Outcome:
    """Both parts from their own files: the pictures first, then the answer from embeddings."""
    ensure_parts(task)
    with Memory(device=task.device) as memory:
        given: dict[str, Any] = {
            "family": task.family,
            "dtype": task.dtype,
            "device": task.device,
        }
        (vision, language), load_s = _timed(
            lambda: (load_vision(task.output, **given), load_language(task.output, **given))
        )
        passage = _ask_parts(task, vision, language)
    present = [file_of(task.output, part) for part in PARTS if file_of(task.output, part).is_file()]
    return _outcome("split_native", load_s, passage, memory, sum(map(size_bytes, present)))


def convert(task: Task) -> Outcome:
    """The vision part becomes a graph, which is then asked what the original was asked."""
    ensure_parts(task)
    export(task, folder=task.onnx_folder, layout=task.onnx_layout)
    return dataclasses.replace(run_onnx(task), mode="convert_onnx")


def export(task: Task, *, folder: Path, layout: str) -> Path:
    """The vision part as a graph, from its own file alone."""
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
    """The language part with the graph in the place of the vision part."""
    if not task.onnx_file.is_file():
        raise RunFirst(f"there is no {task.onnx_file}: run --mode convert_onnx first")
    from profiling.graphs.vision_chain import load_vision as load_graph

    ensure_parts(task)
    with Memory(device=task.device) as memory:

        def load() -> Model:
            model = load_language(
                task.output, family=task.family, dtype=task.dtype, device=task.device
            )
            graph = load_graph(
                task.onnx_file,
                model=model,
                threads=torch.get_num_threads(),
                provider=None,
                provider_options={},
            )
            replace_parts(model.network, {task.family.layout.parts.vision: graph})
            return model

        model, load_s = _timed(load)
        passage = _ask(task, model)
    size = size_bytes(task.onnx_folder) + size_bytes(file_of(task.output, "language"))
    return _outcome("run_onnx", load_s, passage, memory, size)


def ensure_parts(task: Task) -> None:
    """Cut the checkpoint, unless the folder holds the parts of these very values already."""
    digest = digest_of(task.source, task.point.seed, task.dtype)
    task.output.mkdir(parents=True, exist_ok=True)
    with locked(task.output):
        if not _has_parts(task.output, digest):
            _cut(task, digest)
        if task.pt and not file_of(task.output, "vision").with_suffix(".pt").is_file():
            write_pt(task.output)


def _cut(task: Task, digest: str) -> None:
    # What was made of other values must not be taken for being of these.
    (task.output / TIES).unlink(missing_ok=True)
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
    if not (folder / TIES).is_file():
        return False
    ties = read_ties(folder)
    whole = all(
        (folder / part["file"]).is_file() and size_bytes(folder / part["file"]) == part["bytes"]
        for part in ties["parts"].values()
    )
    return whole and ties["weights_digest"] == digest


def _ask(task: Task, model: Model) -> Passage:
    """A whole generation, its vision part timed from inside."""
    watch = Stopwatch(device=task.device)
    prepared = model.prepare(task.sample, None)
    modules = [model.network.get_submodule(path) for path in task.family.layout.vision_paths]
    for _ in ("to warm up", "to be timed"):
        watch.seconds.clear()
        with watch.part("preprocess"):
            inputs = model.place(model.encode([prepared], task.point.img_size))
        with watch.part("generate"), watch.inside("vision", modules):
            tokens = model.generate(
                inputs, side=task.point.img_size, length=task.point.max_new_tokens, exact=False
            )
    seconds = watch.seconds
    language_s = seconds["generate"] - seconds["vision"]
    return _passage(model, seconds["preprocess"], seconds["vision"], language_s, tokens)


def _ask_parts(task: Task, vision: Model, language: Model) -> Passage:
    watch = Stopwatch(device=task.device)
    prepared: Prepared = vision.prepare(task.sample, None)
    side = task.point.img_size
    for _ in ("to warm up", "to be timed"):
        watch.seconds.clear()
        with watch.part("preprocess"):
            inputs = vision.encode([prepared], side)
        with watch.part("vision"):
            embeddings = embed(vision, inputs)
        with watch.part("language"):
            tokens = answer_from(
                language,
                inputs,
                embeddings,
                side=side,
                length=task.point.max_new_tokens,
                exact=False,
            )
    seconds = watch.seconds
    return _passage(language, seconds["preprocess"], seconds["vision"], seconds["language"], tokens)


def _passage(
    model: Model, preprocess_s: float, vision_s: float, language_s: float, tokens: torch.Tensor
) -> Passage:
    (count,) = model.count_new_tokens(tokens)
    (text,) = model.family.processing.decode(tokens)
    return Passage(
        preprocess_s=preprocess_s,
        vision_s=vision_s,
        language_s=language_s,
        tokens=tokens[0, :count].tolist(),
        text=text,
    )


def _timed(load: Callable[[], Loaded]) -> tuple[Loaded, float]:
    begun = time.perf_counter()
    loaded = load()
    return loaded, time.perf_counter() - begun


def _outcome(
    mode: str, load_s: float, passage: Passage, memory: Memory, disk_bytes: int
) -> Outcome:
    return Outcome(mode=mode, load_s=load_s, passage=passage, memory=memory, disk_bytes=disk_bytes)
