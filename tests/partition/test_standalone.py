"""Standalone folders: they run where this project is not, and answer as it does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from profiling.models.recipe import picture_recipe, prompt_recipe
from profiling.models.stand_ins import describe_stand_ins, read_stand_ins
from profiling.partition import language_inference, vision_inference
from profiling.partition.__main__ import main
from profiling.parts.reduced import Replacements
from tests.tiny_models import FAMILIES, ask, encode, load, make_picture

SHAPES = ((200, 100), (77, 133), (64, 64))
QUESTION = "what is it: red or blue?"


def as_stored(recipe: dict[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(recipe))
    return stored


@pytest.mark.parametrize("side", [60, 112, 150])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_script_sees_what_the_model_sees(family: str, side: int) -> None:
    model = load(family).model
    recipe = as_stored(picture_recipe(model.family, side))
    for shape in SHAPES:
        picture = make_picture(*shape, seed=3)
        inputs = encode(model, [ask(model, QUESTION, picture)], side)
        pixels = vision_inference.see(picture, recipe)
        feeds = vision_inference.make_feeds(pixels, recipe)
        seen = torch.from_numpy(numpy.ascontiguousarray(feeds["pixel_values"]))
        torch.testing.assert_close(seen, inputs["pixel_values"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_script_asks_what_the_model_is_asked(family: str) -> None:
    model = load(family).model
    recipe = as_stored(prompt_recipe(model.family))
    # What a tokenizer takes for a picture or an end is plain text in a question.
    tokenizer = model.family.processing.tokenizer
    mark = tokenizer.convert_ids_to_tokens(model.family.processing.image_token_id)
    question = f"{QUESTION} {mark} {tokenizer.eos_token}"
    for shape in SHAPES:
        inputs = encode(model, [ask(model, question, make_picture(*shape))], 112)
        ((width, height),) = model.family.processing.picture_sizes(inputs)
        count = int(model.family.processing.count_visual_tokens(inputs["input_ids"]))
        seen = {"embeddings": numpy.zeros((count, 4)), "width": width, "height": height}
        made = language_inference.make_inputs(recipe, tokenizer, question, seen)
        assert made.keys() == inputs.keys()
        assert all(torch.equal(made[n], inputs[n]) for n in inputs if n != "pixel_values")


@pytest.mark.parametrize("family", FAMILIES)
def test_stand_ins_survive_being_written_down(family: str) -> None:
    stand_ins: Replacements = load(family).family.layout.stand_ins(torch.float32)
    read = read_stand_ins(as_stored(describe_stand_ins(stand_ins)), torch.float32)
    assert {p: type(s) for p, s in read.items()} == {p: type(s) for p, s in stand_ins.items()}
    assert describe_stand_ins(read) == describe_stand_ins(stand_ins)


def save(folder: Path, family: str, question: str = QUESTION) -> tuple[Path, Path]:
    """The saved folders and the picture that they are to be asked about."""
    picture = folder / "picture.png"
    make_picture(150, 90, seed=5).save(picture)
    chosen = ["--mode", "save_standalone", "--model", family, "--max-tokens", "8"]
    main(
        [*chosen, "--output-dir", str(folder / "out"), "--image", str(picture), "--text", question]
    )
    return folder / "out" / "standalone", picture


@pytest.mark.slow
def test_the_folders_need_nothing_of_this_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = save(tmp_path, "fuyu")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("save_")]
    assert rows[-1].endswith("equal")
    for script in folder.rglob("*.py"):
        assert "profiling" not in script.read_text(encoding="utf-8"), script.name
    for part in ("vision", "language"):
        listed = (folder / part / "requirements.txt").read_text(encoding="utf-8").splitlines()
        assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", line) for line in listed)
        readme = (folder / part / "README.md").read_text(encoding="utf-8")
        assert f"{part}_inference.py" in readme


@pytest.mark.slow
def test_the_folders_run_in_a_fresh_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, picture = save(tmp_path, "qwen25vl")
    (answer,) = re.findall(r"^original: '(.*)'$", capsys.readouterr().out, re.MULTILINE)
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    pythons = {}
    for part in ("vision", "language"):
        home = tmp_path / f"{part}-environment"
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pythons[part] = home / "bin" / "python"
        requirements = folder / part / "requirements.txt"
        install = [pythons[part], "-m", "pip", "install", "-q", "-r", requirements]
        done = subprocess.run(install, env=environment, capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"cannot install into a fresh environment: {done.stderr[-200:]!r}")
    outside = tmp_path / "outside"
    outside.mkdir()
    seen = [pythons["vision"], folder / "vision" / "vision_inference.py", "--image", picture]
    subprocess.run(seen, cwd=outside, env=environment, check=True)
    told = [pythons["language"], folder / "language" / "language_inference.py"]
    told += ["--embeddings", "embeddings.npz", "--text", QUESTION, "--max-tokens", "8"]
    done = subprocess.run(
        told, cwd=outside, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == answer


@pytest.mark.parametrize(
    ("script", "settings", "arguments"),
    [
        (vision_inference, "preprocessing.json", ["--image", "picture.png"]),
        (language_inference, "prompt.json", ["--text", "what?", "--embeddings", "seen.npz"]),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(
    script: Any,
    settings: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    with pytest.raises(SystemExit, match=f"{settings} cannot be read: No such file"):
        script.main()
    (tmp_path / settings).write_text("{")
    with pytest.raises(SystemExit, match=f"{settings} is not valid JSON"):
        script.main()


def test_a_missing_graph_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"vision_model.onnx is missing"):
        vision_inference.run(tmp_path / "vision_model.onnx", {}, 1)
