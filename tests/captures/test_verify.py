"""The commands: what they print, write, and exit with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import profiling.capture
import profiling.verify
from profiling.captures import capture
from profiling.captures.weight_files import read_nested, read_weights
from profiling.models.nested_weights import nest
from tests.captures.captured import captured, make_scaled
from tests.composing import PROJECT
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load

FUNCTIONS = PROJECT / "benchmarks" / "qwen25vl_functions.py"


def run(module, arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = 0
    try:
        module.main([str(argument) for argument in arguments])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    told = capsys.readouterr()
    torch.set_num_threads(1)
    return status, told.out + told.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command, with every call of two answers."""
    folder = tmp_path_factory.mktemp("captures") / "calls"
    arguments = ["--model", "qwen25vl", "--output", str(folder), "--device", "cpu"]
    profiling.capture.main([*arguments, "--tokens", "3", "--calls", "6", "--save-weights"])
    torch.set_num_threads(1)
    return folder


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command, of the vision part alone."""
    folder = tmp_path_factory.mktemp("captures") / "vision"
    arguments = ["--model", "qwen25vl", "--output", str(folder), "--device", "cpu"]
    chosen = ["--modules", "model.visual*", "--samples", "0", "--tokens", "1", "--calls", "1"]
    profiling.capture.main([*arguments, *chosen, "--save-weights"])
    torch.set_num_threads(1)
    return folder


def test_the_original_gives_the_same_bits(folder: Path, capsys) -> None:
    status, told = run(profiling.verify, [folder], capsys)
    assert status == 0
    assert "calls are bit-equal when run again" in told


def test_right_functions_agree(folder: Path, tmp_path: Path, capsys) -> None:
    outputs = ["--json", tmp_path / "v.json", "--html", tmp_path / "v.html"]
    status, told = run(profiling.verify, [folder, "--functions", FUNCTIONS, *outputs], capsys)
    assert status == 0
    assert max(map(len, told.splitlines())) <= 80
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["status"] == "agrees"
    assert len(content["calls"]) > 250
    assert all(row["formula"] <= 1e-9 and row["rounding"] <= 4 for row in content["calls"])
    page = (tmp_path / "v.html").read_text()
    assert "http" not in page and "<script" not in page
    assert page.count("<details") == page.count("</details>") > 50


NO_BIAS = """
from torch.nn import functional
from benchmarks.qwen25vl_functions import rms_norm

def merger(w, settings, arguments):
    x = rms_norm(arguments["x"], w["ln_q"]["weight"], 1e-6)
    x = x.reshape(-1, settings.module["hidden_size"])
    x = functional.gelu(x @ w["mlp"][0]["weight"].T)
    return x @ w["mlp"][2]["weight"].T

MODULES = {"Qwen2_5_VLPatchMerger": merger}
"""
WRONG = """
from benchmarks.planted_errors import ERRORS
from benchmarks.qwen25vl_functions import MODULES as RIGHT
(planted,) = [one for one in ERRORS if one.name == {name!r}]
MODULES = {{**RIGHT, **planted.functions}}
"""


@pytest.mark.parametrize(
    ("name", "told"),
    slow_except(
        [
            ("merger: both biases left out", "FAILS Qwen2_5_VLPatchMerger, model.visual.merger"),
            (
                "vision: block numbers as texts, never full attention",
                "FAILS Qwen2_5_VisionTransformerPretrainedModel, model.visual",
            ),
            (
                "vision: a tower of one block",
                "FAILS Qwen2_5_VisionTransformerPretrainedModel, model.visual",
            ),
        ],
        ("merger: both biases left out", "FAILS Qwen2_5_VLPatchMerger, model.visual.merger"),
    ),
)
def test_known_faults_of_ports_are_named(
    name: str, told: str, vision: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "wrong.py").write_text(WRONG.format(name=name))
    arguments = [vision, "--functions", tmp_path / "wrong.py", "--html", tmp_path / "v.html"]
    status, output = run(profiling.verify, arguments, capsys)
    assert status == 1
    fails = [line for line in output.splitlines() if line.startswith("FAILS")]
    assert len(fails) == 1
    assert " ".join(output.split()).find(told) >= 0
    assert "instead of" in (tmp_path / "v.html").read_text()


def test_weights_that_a_function_never_reads_are_named(
    vision: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "wrong.py").write_text(NO_BIAS)
    status, output = run(profiling.verify, [vision, "--functions", tmp_path / "wrong.py"], capsys)
    assert status == 1
    assert "it never reads mlp.0.bias, mlp.2.bias" in " ".join(output.split())


def test_a_tower_tested_with_one_block_leaves_blind_spots(tmp_path: Path, capsys) -> None:
    engine = load("qwen25vl")
    from tests.tiny_models import answer, ask_unevenly

    patterns = ("model.visual.blocks.0*", "model.visual.merger*")
    with capture(engine.network, tmp_path / "calls", modules=patterns):
        answer(engine, ask_unevenly(engine, 1), 112, 1)
    arguments = ["model=qwen25vl", "weights=tiny"]
    path = tmp_path / "calls" / "capture.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "point": {"overrides": arguments, "parts": {}}}))
    status, _ = run(
        profiling.verify,
        [tmp_path / "calls", "--functions", FUNCTIONS, "--json", tmp_path / "v.json"],
        capsys,
    )
    assert status == 0
    spots = {
        (s["subject"], s["name"])
        for s in json.loads((tmp_path / "v.json").read_text())["blind_spots"]
    }
    assert {("module", f"model.visual.blocks.{number}") for number in (1, 2, 3)} <= spots
    assert ("weight", "model.visual.blocks.2.attn.qkv.bias") in spots
    assert ("case", "full attention and windows") in spots


def test_fresh_values_are_unfit(tmp_path: Path, capsys) -> None:
    file = tmp_path / "functions.py"
    file.write_text(SCALED)
    module = make_scaled()
    module.inner.bias.zero_()
    with capture(module, tmp_path / "calls"):
        module(torch.randn(2, 6))
    status, output = run(profiling.verify, [tmp_path / "calls", "--functions", file], capsys)
    assert status == 2
    assert "UNFIT" in output and "weight inner.bias" in output


SCALED = """
import torch
from torch.nn import functional
from tests.captures.captured import make_scaled

def scaled(w, settings, arguments):
    y = functional.linear(arguments["x"], w["inner"]["weight"], w["inner"].get("bias"))
    y = y * settings.module["factor"]
    return y if arguments.get("add") is None else y + arguments["add"]

def original():
    module = make_scaled()
    {change}
    return module

MODULES = {{"Scaled": scaled}}
""".format(change="module.inner.bias.zero_()")


def test_a_module_of_ones_own_needs_its_original(tmp_path: Path, capsys) -> None:
    module = make_scaled()
    with capture(module, tmp_path / "calls"):
        module(torch.randn(2, 6), add=torch.ones(4))
    status, output = run(profiling.verify, [tmp_path / "calls"], capsys)
    assert status == 2 and "original()" in output
    file = tmp_path / "functions.py"
    file.write_text(SCALED)
    status, output = run(profiling.verify, [tmp_path / "calls", "--functions", file], capsys)
    assert status == 2 and "the weight inner.bias is another one" in output
    file.write_text(SCALED.replace("module.inner.bias.zero_()", "pass"))
    status, output = run(profiling.verify, [tmp_path / "calls", "--functions", file], capsys)
    assert status == 0, output


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("raise SystemExit(0)", "cannot be imported: SystemExit"),
        ("def original(): return 1 / 0", "original() raised ZeroDivisionError: division by zero"),
        ("def original(): raise SystemExit(0)", "original() raised SystemExit: 0"),
        ("def original(): return None", "original() returned NoneType and no module of torch"),
        ("original = 3", "original is not a function"),
    ],
)
def test_a_wrong_file_of_functions_is_one_line(
    ending: str, told: str, tmp_path: Path, capsys
) -> None:
    module = make_scaled()
    with capture(module, tmp_path / "calls"):
        module(torch.randn(2, 6))
    file = tmp_path / "functions.py"
    file.write_text(f"MODULES = {{'Scaled': print}}\n{ending}\n")
    status, output = run(profiling.verify, [tmp_path / "calls", "--functions", file], capsys)
    assert status == 2
    assert told in output and output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere"], "there is no such folder"),
        (["{folder}", "--functions", "nowhere.py"], "there is no such file"),
        (["{folder}", "--functions", "nowhere.at.all"], "cannot be imported"),
        (["{folder}", "--functions", "json"], "has no table MODULES"),
        (["{folder}", "--library", "numpy"], "goes with --functions"),
        (["{folder}", "--against", "/nowhere"], "there is no such folder"),
        (["{folder}", "--against", "{folder}", "--functions", "json"], "at a time"),
        (["{folder}", "--optimization", "bf17"], "optimization"),
        (["{folder}", "--tolerance", "nan"], "allowed is a number from 0"),
        (["{folder}", "--tolerance", "0.1"], "goes with --against"),
        (["{folder}", "--html", "{folder}"], "is a folder"),
        (["{folder}", "--json", "{folder}/calls.jsonl/x.json"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], told: str, folder: Path, capsys) -> None:
    filled = [argument.format(folder=folder) for argument in arguments]
    status, output = run(profiling.verify, filled, capsys)
    assert status == 2
    assert told in output and output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "qwen25vl"], "--output"),
        (["--model", "nobody", "--output", "x"], "invalid choice"),
        (["--output", "{folder}"], "exists already"),
        (["--output", "{folder}/calls.jsonl/x"], "cannot be written"),
        (["--output", "x", "--samples", "0", "--uneven", "0"], "at least 1"),
        (["--output", "x", "--modules", "nothing*"], "no module has such a path"),
        (["--output", "x", "--part", "vision"], "goes with --weights-only"),
        (["--output", "x", "optimization=bf17"], "optimization"),
        (["--output", "x", "--weights", "tiny", "--checkpoint", "y"], "needs --weights pretrained"),
        (["--output", "x", "engine=endpoint"], "engine"),
        (["--output", "x", "--samples", "100000"], "holds"),
        (["--output", "x", "--tokens", "100000"], "the positions of this model"),
    ],
)
def test_a_mistake_in_capturing_is_one_line(
    arguments: list[str], told: str, folder: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(folder=folder) for argument in arguments]
    status, output = run(profiling.capture, filled, capsys)
    assert status == 2, output
    lines = [line for line in output.splitlines() if "Loading weights" not in line]
    assert told in lines[-1]
    assert not (tmp_path / "x").exists() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_opt", "qwen25vl"))
def test_weights_are_written_for_any_family(family: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "w.safetensors"
    arguments = ["--model", family, "--weights-only", "--output", path]
    assert run(profiling.capture, arguments, capsys)[0] == 0
    flat, network = read_weights(path), load(family).network
    own = dict(network.named_parameters(remove_duplicate=False))
    own |= dict(network.named_buffers(remove_duplicate=False))
    assert flat.keys() == own.keys()
    assert all(torch.equal(flat[name], own[name]) for name in own)
    assert isinstance(read_nested(path), dict)
    assert nest(flat).keys() == read_nested(path).keys()


def test_weights_of_a_part_alone(tmp_path: Path, capsys) -> None:
    path = tmp_path / "w.safetensors"
    arguments = ["--model", "llava", "--weights-only", "--part", "vision", "--output", path]
    assert run(profiling.capture, arguments, capsys)[0] == 0
    names = read_weights(path).keys()
    assert names and all(name.startswith("model.vision_tower.") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify", "capture"])
def test_a_reader_may_stop_reading(command: str, folder: Path, tmp_path: Path) -> None:
    """As with `| head`: no traceback, and the status of what was found."""
    arguments = {
        "verify": [str(folder)],
        "capture": ["--output", str(tmp_path / "calls"), "--modules", "lm_head", "--uneven", "0"],
    }
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", f"profiling.{command}", *arguments[command]],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_a_mistake_is_told_without_a_framework() -> None:
    program = (
        "import sys, profiling.verify, profiling.capture\n"
        "print({'torch', 'transformers'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.stdout == "set()\n"


def test_a_captured_family_is_read_from_its_folder_alone(capsys) -> None:
    """From configuration and weights, without the checkpoint."""
    from profiling.captures.originals import _from_folder, check_same

    for family in FAMILIES:
        found = captured(family)
        check_same(found, _from_folder(found, family))
    found = captured("qwen25vl")
    check_same(found, _from_folder(found, "auto"))
