"""Writes every part of a model in a framework's own format, and answers with what was written."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from profiling.graphs.export import Stage
from profiling.graphs.feeds import export_sizes, feeds_of, noise
from profiling.graphs.part_folder import (
    MANIFEST_FILE,
    VISION_ENCODER,
    joining_parts,
)
from profiling.graphs.text_graphs import EXPORTED, in_single_precision
from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model
from profiling.models.recipe import picture_recipe
from profiling.models.sequence_parts import IDS
from profiling.models.text_parts import BIAS, CROSS_BIAS
from profiling.partition.conversion_check import check_part
from profiling.partition.converters.converter import Converter, Sizes, Source, find_converter
from profiling.partition.exporting import (
    describe_weights,
    list_files,
    pipeline_recipe,
    save_recipe,
    with_digest,
    write_graphs,
)
from profiling.partition.fixed_sizes import choose_sizes
from profiling.partition.outcomes import Outcome
from profiling.partition.pipeline import (
    MANIFEST,
    RECIPE,
    TOKENIZER,
    check_all,
    read_manifest,
)
from profiling.partition.running import RunFirst, Task
from profiling.partition.standalone import once, run, save_needs, save_program, save_text
from profiling.parts.artifacts import (
    locked,
    remove_leftovers,
    size_bytes,
    unfinished_folder,
    write_json,
)

_SHARED = (
    "models/special_texts",
    "models/windows",
    "partition/vision_inference",
    "partition/pipeline",
    "partition/saved_part",
    "samples/pictures",
    "files",
)
_NEEDS = ("numpy", "pillow", "tokenizers")
_LOWEST = float(numpy.finfo(numpy.float32).min)
_README = """# The whole model in the format of {engine}

    python -m pip install -r requirements.txt
    python {script} --image PICTURE --text "what is in the picture?"

`manifest.json` lists the inputs, outputs, shapes, files and digests of each part, and its error to
the network; a file that differs from it is refused before it is read. `pipeline.json` has the size
that pictures are resized to and the form of the prompt.
"""


def convert_parts(task: Task) -> Outcome:
    """Write the folder of an engine and answer with it, in a process of its own."""
    assert task.engine is not None
    converter = find_converter(task.engine)
    model = load_model(task.point, LoadPlan(dtype=task.dtype))
    recipe = pipeline_recipe(model, task.point.side)
    folder = folder_of(task)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(task.output):
        remove_leftovers(folder.parent)
        exported = _ensure_exported(task, model)
        with unfinished_folder(folder.parent, name=task.engine) as made:
            _write(task, model, converter, exported, recipe, made)
            made.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    del model
    return _ask(task, mode="convert")


def folder_of(task: Task) -> Path:
    assert task.engine is not None
    return task.output / "engines" / task.engine


def run_engine(task: Task) -> Outcome:
    """Answer with what was saved, in a process of its own."""
    assert task.engine is not None
    again = f"run --mode convert --engine {task.engine}"
    folder = folder_of(task)
    if not (folder / MANIFEST).is_file():
        raise RunFirst(f"there is no {folder / MANIFEST}: {again} first")
    manifest = _read(folder)
    own = {**describe_weights(task), "engine": task.engine}
    if any(manifest.get(name) != value for name, value in own.items()):
        raise RunFirst(f"{folder} was converted from other weights: {again}")
    return _ask(task, mode="run_engine")


def _read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are as they were written."""
    try:
        manifest = read_manifest(folder)
        check_all(folder, manifest)
    except SystemExit as problem:
        raise RunFirst(str(problem)) from None
    return manifest


def _ask(task: Task, *, mode: str) -> Outcome:
    folder = folder_of(task)
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory() as elsewhere:
        written = Path(elsewhere) / "answer.json"
        options = {
            "--image": task.sample.picture,
            "--text": task.sample.request,
            "--max-tokens": task.point.max_new_tokens,
            "--threads": task.point.threads,
            "--json": written,
        }
        _, text = run(folder / manifest["script"], options, Path(elsewhere))
        told = json.loads(written.read_text(encoding="utf-8"))
    source = "the script's one answer, its first one and with what it compiles"
    latency = once("latency_s", told["latency_s"], source)
    return Outcome(
        mode=mode,
        load_s=told["load_s"],
        readings={latency.metric: latency},
        tokens=told["tokens"][0],
        text=text,
        disk_bytes=size_bytes(folder),
        errors={
            name: max(one["relative_l2"] for one in part["checked"])
            for name, part in manifest["parts"].items()
        },
    )


def _ensure_exported(task: Task, model: Model) -> Mapping[str, Any]:
    """The graphs of these weights by their manifest; they are exported unless they are there."""
    folder, facts = task.output / "parts", describe_weights(task)
    if (folder / MANIFEST_FILE).is_file():
        try:
            manifest = read_manifest(folder)
            if all(manifest.get(name) == value for name, value in facts.items()):
                check_all(folder, manifest)
                return manifest
        except SystemExit as problem:
            print(f"{problem}: the parts are exported again", file=sys.stderr)
    write_graphs(task, model, folder)
    return read_manifest(folder)


def _write(
    task: Task,
    model: Model,
    converter: Converter,
    exported: Mapping[str, Any],
    recipe: Mapping[str, Any],
    folder: Path,
) -> None:
    assert task.engine is not None
    script = f"{task.engine}_inference"
    open_part = import_module(f"profiling.partition.{script}").open_part
    sizes = _choose_sizes(task, model, exported) if converter.fixed else {}
    parts = {}
    for source in _list_sources(model, exported["parts"], task.output / "parts"):
        with in_single_precision(source.module):
            saved = converter.save(source, folder, sizes.get(source.name, ()))
            told = _describe(source, saved, folder, model)
            opened = open_part(folder, told, task.point.threads)
            checked = check_part(model, source, opened, told, side=task.point.side)
        parts[source.name] = {**told, "checked": checked}
    save_recipe(model, recipe, folder)
    save_program(folder, script, _SHARED)
    save_text(folder / "README.md", _README.format(engine=task.engine, script=f"{script}.py"))
    save_needs(folder, (*_NEEDS, *converter.needs))
    manifest = {
        **describe_weights(task),
        "engine": task.engine,
        "versions": {package: version(package) for package in converter.needs},
        "script": f"{script}.py",
        "shapes": "fixed" if converter.fixed else "dynamic",
        "files": list_files(folder, (RECIPE, TOKENIZER)),
        "parts": parts,
    }
    write_json(folder / MANIFEST, with_digest(manifest))


def _choose_sizes(
    task: Task, model: Model, exported: Mapping[str, Any]
) -> Mapping[str, Sequence[Sizes]]:
    return choose_sizes(
        picture_recipe(model.family, task.point.side),
        exported["parts"],
        prompts=task.prompt_lengths,
        new_tokens=task.point.max_new_tokens,
    )


def _list_sources(model: Model, parts: Mapping[str, Any], folder: Path) -> Iterator[Source]:
    """Every part that the family has."""
    family = model.family
    modules = {**family.layout.text_parts(model.network), **joining_parts(model)}
    for name, told in parts.items():
        if name == VISION_ENCODER:
            tower = family.layout.tower(model.network)
            module: nn.Module = Stage(tower, 0, len(tower.blocks))
            inputs = noise(family, export_sizes(family), seed=0, device=model.device)
            example, axes = feeds_of(family, inputs), tower.axes
        else:
            module, axes = modules[name], modules[name].axes
            example = modules[name].example(EXPORTED, torch.Generator().manual_seed(0))
        yield Source(
            name=name,
            graph=folder / told["file"],
            told=told,
            module=module.eval(),
            example=example,
            axes=axes,
        )


def _describe(
    source: Source, saved: Mapping[str, Any], folder: Path, model: Model
) -> dict[str, Any]:
    """What the manifest says of a part."""
    # What smaller inputs are filled up with: hidden by the bias, and a token of no picture.
    picture = model.family.processing.image_token_id
    fills = {BIAS: _LOWEST, CROSS_BIAS: _LOWEST, IDS: 0 if picture else 1}
    inputs = [{**value, "fill": fills.get(value["name"], 0)} for value in source.told["inputs"]]
    written = sorted(path.name for path in folder.glob(f"{source.name}.*"))
    described = {"name": source.name, "inputs": inputs, "outputs": source.told["outputs"]}
    return {**described, **saved, "files": list_files(folder, written)}
