"""Exports every part of a model, and a folder that answers with them and no framework."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling.files import digest_file
from profiling.graphs.part_folder import write_parts
from profiling.models.greedy import Rules
from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model
from profiling.models.network_weights import generation_settings
from profiling.models.recipe import picture_recipe, prompt_recipe
from profiling.partition.outcomes import Outcome
from profiling.partition.pipeline import DIGEST, MANIFEST, RECIPE, TOKENIZER, digest_manifest
from profiling.partition.running import Task
from profiling.partition.standalone import once, run, save_needs, save_program, save_text
from profiling.parts.artifacts import locked, size_bytes, write_json
from profiling.parts.parts_cache import digest_of

_NEEDS = ("numpy", "onnxruntime", "pillow", "tokenizers")
_README = """# The whole model as graphs, standalone

    python -m pip install -r requirements.txt
    python pipeline_inference.py --image PICTURE --text "what is in the picture?"

The parts are in `../../parts` (`--parts` names another folder); their `manifest.json` lists inputs,
outputs, digests and the error of each to the network. `pipeline.json` has the size that pictures
are resized to and the form of the prompt. Repeat `--image` and `--text` to answer several questions
as one batch.
"""


def export_parts(task: Task) -> Outcome:
    """Write both folders and answer with the script, in a process of its own."""
    model = load_model(task.point, LoadPlan(dtype=task.dtype))
    recipe = pipeline_recipe(model, task.point.side)
    parts, folder = task.output / "parts", task.output / "standalone" / "pipeline"
    with locked(task.output):
        write_graphs(task, model, parts)
        _save_pipeline(task, model, recipe, folder)
    del model
    with tempfile.TemporaryDirectory() as elsewhere:
        options = {
            "--image": task.sample.picture,
            "--text": task.sample.request,
            "--max-tokens": task.point.max_new_tokens,
            "--threads": task.point.threads,
        }
        passed_s, text = run(folder / "pipeline_inference.py", options, Path(elsewhere))
    latency = once("latency_s", passed_s, "the script once, the start of Python in it")
    return Outcome(
        mode="export_parts",
        load_s=None,
        readings={latency.metric: latency},
        tokens=None,
        text=text,
        disk_bytes=size_bytes(parts) + size_bytes(folder),
    )


def write_graphs(task: Task, model: Model, folder: Path) -> None:
    """Every part as a graph, and a manifest that has a digest of itself."""
    path = write_parts(model, folder, facts=describe_weights(task))
    write_json(path, with_digest(json.loads(path.read_text(encoding="utf-8"))))


def describe_weights(task: Task) -> dict[str, Any]:
    return {
        "model": task.point.model,
        "weights_digest": digest_of(task.source, task.point.seed, task.dtype),
        "dtype": str(task.dtype).removeprefix("torch."),
    }


def _save_pipeline(task: Task, model: Model, recipe: Mapping[str, Any], folder: Path) -> None:
    save_recipe(model, recipe, folder)
    shared = (
        *("models/special_texts", "models/windows"),
        *("partition/vision_inference", "partition/pipeline"),
        *("samples/pictures", "files"),
    )
    save_program(folder, "pipeline_inference", shared)
    save_text(folder / "README.md", _README)
    save_needs(folder, _NEEDS)
    files = list_files(folder, (RECIPE, TOKENIZER))
    write_json(folder / MANIFEST, with_digest({**describe_weights(task), "files": files}))


def save_recipe(model: Model, recipe: Mapping[str, Any], folder: Path) -> None:
    """How pictures and questions become inputs, and the tokenizer."""
    write_json(folder / RECIPE, recipe)
    tokenizer = model.family.processing.tokenizer
    save_text(folder / TOKENIZER, tokenizer.backend_tokenizer.to_str())


def pipeline_recipe(model: Model, side: int) -> dict[str, Any]:
    """How pictures and questions become inputs of the parts, and tokens an answer.

    Raises Unsupported where the checkpoint's settings change answers in a way that is not known.
    """
    family = model.family
    settings = generation_settings(family, model.network)
    rules = Rules.of(settings)
    config, padding = family.config, family.processing.tokenizer.pad_token_id
    around = [getattr(config, f"vision_{end}_token_id", None) for end in ("start", "end")]
    return {
        "picture": picture_recipe(family, side),
        "prompt": prompt_recipe(family),
        "by_area": family.processing.keeps_aspect_ratio,
        "around_picture": None if None in around else [[around[0]], [around[1]]],
        "padding_side": family.processing.padding_side,
        # A repetition penalty counts what prompts are filled up with, as it does in the library.
        "pad_token_id": rules.padding if padding is None else padding,
        "eos_token_ids": list(rules.ends),
        "start_token_id": settings.decoder_start_token_id,
        "repetition_penalty": rules.repetition_penalty,
    }


def list_files(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """What a manifest says of the files that have to be as they were written."""
    paths = [folder / name for name in names]
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": digest_file(path)} for path in paths
    }


def with_digest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {**manifest, DIGEST: digest_manifest(manifest)}
