"""The folder of parts: what the manifest says, and answers where there is no framework."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import onnx
import pytest

from profiling.partition import pipeline_inference
from profiling.partition.__main__ import main
from profiling.partition.pipeline import RECIPE, bias_of, pad
from tests.composing import compose_point
from tests.tiny_models import FAMILIES, load, take_samples

SIX = {"text_embedding", "vision_encoder", "fusion", "rotary_with_vision", "rotary_text", "decoder"}
PARTS = {
    "qwen25vl": SIX,
    "blip2_t5": SIX - {"rotary_with_vision", "rotary_text"} | {"encoder"},
}
LENGTH = 24


def export(family: str, folder: Path) -> Path:
    chosen = ["--mode", "export_parts", "--model", family, "--max-tokens", str(LENGTH)]
    main([*chosen, "--output-dir", str(folder)])
    return folder / "standalone" / "pipeline" / "pipeline_inference.py"


def ask(script: Path, *arguments: str, python: str = sys.executable) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, str(script), *arguments, "--max-tokens", str(LENGTH), "--threads", "1"]
    done = subprocess.run(
        command, cwd=script.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_answer_as_the_model_does(family: str, tmp_path: Path) -> None:
    """One by one and as a batch of questions of several lengths about pictures of several sizes."""
    script = export(family, tmp_path)
    engine, side = load(family, "optimization=fp32"), compose_point(f"model={family}").img_size
    samples = take_samples(6)
    batch = engine.prepare(samples, None)
    inputs = engine.place(engine.encode(batch, side))
    generated = engine.generate(inputs, length=LENGTH, exact=False, trace=None)
    right = [row.answer for row in engine.describe(batch, inputs, generated)]
    pairs = [("--image", str(s.picture), "--text", s.request) for s in samples]
    assert ask(script, *[word for pair in pairs for word in pair]) == right
    assert ask(script, *pairs[1]) == right[1:2]
    check_manifest(tmp_path / "parts", PARTS.get(family, SIX - {"rotary_with_vision"}))


def check_manifest(folder: Path, names: set[str]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parts"].keys() == names
    assert {path.stem for path in folder.glob("*.onnx")} == names
    for part in manifest["parts"].values():
        graph = onnx.load(str(folder / part["file"]), load_external_data=False).graph
        assert [value["name"] for value in part["inputs"]] == [v.name for v in graph.input]
        assert [value["name"] for value in part["outputs"]] == [v.name for v in graph.output]
        assert part["opset"]["ai.onnx"] == 18
        assert all(value["dynamic_axes"] for value in part["inputs"])
        for name, told in part["files"].items():
            content = (folder / name).read_bytes()
            assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.slow
def test_they_answer_in_an_empty_environment(tmp_path: Path) -> None:
    script = export("qwen25vl", tmp_path)
    venv.create(tmp_path / "empty", with_pip=True)
    python = str(tmp_path / "empty" / "bin" / "python")
    needs = str(script.with_name("requirements.txt"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", needs], check=True)
    (sample,) = take_samples(1)
    command = ["--image", str(sample.picture), "--text", sample.request]
    assert ask(script, *command, python=python) == ask(script, *command)
    check = (
        "from importlib.util import find_spec;"
        "print([name for name in ('torch', 'transformers') if find_spec(name)])"
    )
    done = subprocess.run([python, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    two = ["--image", str(sample.picture), str(sample.picture), "--text", "what is in both?"]
    assert len(ask(script, *two, python=python)) == 1
    parts = tmp_path / "parts"
    for path in (parts / "decoder.onnx.data", parts / "manifest.json", script.with_name(RECIPE)):
        kept = path.read_bytes()
        content = bytearray(kept)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        broken = subprocess.run(
            [python, str(script), *command], cwd=tmp_path, capture_output=True, text=True
        )
        path.write_bytes(kept)
        assert broken.returncode == 1
        (line,) = broken.stderr.splitlines()
        assert path.name in line and "manifest" in line


def test_rows_are_filled_up_on_their_side() -> None:
    ids, mask = pad([[5, 6, 7], [8]], 0, "left")
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, mask = pad([[5, 6, 7], [8]], 0, "right")
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    bias = bias_of(numpy.array([[0, 1, 1]]), 2)[0, 0]
    assert (bias == 0).tolist() == [[False, True, False], [False, True, True]]


def test_the_script_imports_no_framework() -> None:
    program = (
        "import sys; import profiling.partition.pipeline_inference;"
        "print({'torch', 'transformers', 'onnx'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(pipeline_inference.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
