"""Saves two standalone folders that answer questions without this project installed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from profiling import PACKAGE
from profiling.files import LARGEST_INDEX, read_json
from profiling.graphs.vision_chain import find_change, read_check
from profiling.models.recipe import picture_recipe, prompt_recipe
from profiling.partition.outcomes import Outcome
from profiling.partition.running import Task, ensure_parts, export
from profiling.parts.artifacts import (
    locked,
    remove_leftovers,
    replacing,
    size_bytes,
    unfinished_folder,
    write_json,
)
from profiling.parts.cutting import INDEX, file_of
from profiling.records import MEASURED, Reading, reading

_VISION_NEEDS = ("numpy", "onnxruntime", "pillow")
_LANGUAGE_NEEDS = ("accelerate", "numpy", "safetensors", "torch", "transformers")
_SETTINGS = ("config.json", "generation_config.json")
_TOKENIZER = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)

_VISION_README = """# The vision part, standalone

    python -m pip install -r requirements.txt
    python vision_inference.py --image PICTURE --output embeddings.npz

`vision_model.onnx` (with its weights beside it) is the vision encoder and its projector for
pictures of any size; `preprocessing.json` has the size that the script resizes to. The script in
the other folder reads its output.
"""
_LANGUAGE_README = """# The language part, standalone

    python -m pip install -r requirements.txt
    python language_inference.py --embeddings embeddings.npz --text "what is in the picture?"

`language_model.safetensors` has no vision part: the embeddings that `vision_inference.py` wrote
replace its output. Without a GPU, the CPU build of torch is enough.
"""


def save_standalone(task: Task) -> Path:
    """Write both folders, each with a script, its data, and its requirements."""
    ensure_parts(task)
    folder = task.output / "standalone"
    with locked(folder):
        _save_vision(task, folder / "vision")
        _save_language(task, folder / "language")
    return folder


def _save_vision(task: Task, folder: Path) -> None:
    remove_leftovers(task.output)
    with unfinished_folder(task.output, name="standalone") as made:
        graph = _single_graph(task, made)
        for path in sorted(graph.parent.glob(f"{graph.name}*")):
            _copy(path, folder / path.name)
    write_json(folder / "preprocessing.json", picture_recipe(task.family, task.point.side))
    save_program(folder, "vision_inference", ("models/windows", "samples/pictures", "files"))
    save_text(folder / "README.md", _VISION_README)
    save_needs(folder, _VISION_NEEDS)


def _single_graph(task: Task, elsewhere: Path) -> Path:
    """A graph in one file: the converted one if it has that form."""
    if task.onnx_file.is_file() and find_change(task.onnx_file) is None:
        told = read_check(task.onnx_file)
        if told["layout"] == "single" and bool(told.get("quantized")) == task.quantize:
            return task.onnx_file
    return export(task, folder=elsewhere, layout="single")


def _save_language(task: Task, folder: Path) -> None:
    values = file_of(task.output, "language")
    _copy(values, folder / values.name)
    index = read_json(values.parent / INDEX, at_most=LARGEST_INDEX)
    index["weight_map"] = dict.fromkeys(index["weight_map"], values.name)
    write_json(folder / INDEX, index)
    settings = [values.parent / name for name in _SETTINGS]
    tokenizer = [path for pattern in _TOKENIZER for path in sorted(task.output.glob(pattern))]
    for path in [*settings, *tokenizer]:
        if path.is_file():
            _copy(path, folder / path.name)
    write_json(folder / "prompt.json", prompt_recipe(task.family))
    shared = ("parts/reduced", "models/special_texts", "models/stand_ins", "files")
    save_program(folder, "language_inference", shared)
    save_text(folder / "README.md", _LANGUAGE_README)
    save_needs(folder, _LANGUAGE_NEEDS)


def save_program(folder: Path, name: str, modules: Sequence[str]) -> None:
    """Copy a script and the modules of this project that it uses into one folder."""
    sources = [PACKAGE / f"{module}.py" for module in (f"partition/{name}", *modules)]
    for source in sources:
        text = source.read_text(encoding="utf-8")
        for module in modules:
            stem = Path(module).name
            text = text.replace(
                f"from profiling.{module.replace('/', '.')} import", f"from {stem} import"
            )
        save_text(folder / source.name, text)


def save_needs(folder: Path, packages: Sequence[str]) -> None:
    # The local version after a plus names a build that other machines may not have.
    lines = [f"{package}=={version(package).partition('+')[0]}\n" for package in packages]
    save_text(folder / "requirements.txt", "".join(lines))


def save_text(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)


def run_standalone(task: Task) -> Outcome:
    """Run both scripts in processes of their own; their times include the start of Python."""
    folder = save_standalone(task)
    with tempfile.TemporaryDirectory() as elsewhere:
        vision_s, _ = run(
            folder / "vision" / "vision_inference.py",
            {"--image": task.sample.picture, "--output": "embeddings.npz"},
            Path(elsewhere),
        )
        language_s, text = run(
            folder / "language" / "language_inference.py",
            {
                "--embeddings": "embeddings.npz",
                "--text": task.sample.request,
                "--max-tokens": task.point.max_new_tokens,
                "--dtype": str(task.dtype).removeprefix("torch."),
                "--device": task.point.device,
            },
            Path(elsewhere),
        )
    source = "both scripts once, the start of Python and of the libraries in it"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    readings = (
        once("latency_s", vision_s + language_s, source),
        once("cpu_memory_peak_bytes", peak, "the larger of the two processes"),
    )
    return Outcome(
        mode="save_standalone",
        load_s=None,
        readings={reading.metric: reading for reading in readings},
        tokens=None,
        text=text,
        disk_bytes=size_bytes(folder),
    )


def once(metric: str, value: float, source: str) -> Reading:
    return reading(metric=metric, value=value, status=MEASURED, source=source)


class ScriptFailed(RuntimeError):
    """A saved script failed; the message is its last line."""


def run(script: Path, options: Mapping[str, Any], elsewhere: Path) -> tuple[float, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # As one word, since a question may begin with a dash.
    arguments = [f"{name}={value}" for name, value in options.items()]
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(script.absolute()), *arguments],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    passed_s = time.perf_counter() - begun
    if done.returncode != 0:
        (*_, last) = done.stderr.strip().splitlines() or ["no message"]
        raise ScriptFailed(f"{script}: {last}")
    return passed_s, done.stdout.strip()
