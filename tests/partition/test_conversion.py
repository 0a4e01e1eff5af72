"""Whole models in the formats of frameworks: their answers, alone and where a byte is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from profiling.partition.__main__ import main
from profiling.partition.converters import converter
from profiling.partition.converters.converter import list_engines
from profiling.partition.pipeline import digest_manifest, read_manifest
from tests.composing import PROJECT
from tests.tiny_models import FAMILIES, take_samples

LENGTH = 16
ENGINES = list_engines()
# The family with the smallest vision part, and the one with the most parts.
ALONE = "qwen25vl"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Paddle and MindSpore cannot share a process, so each has one of its own."""
    return subprocess.run(
        [sys.executable, "-m", "profiling.partition", *arguments],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the graphs of a family, which every engine's parts are made of."""

    @cache
    def make(family: str) -> Path:
        folder = tmp_path_factory.mktemp("parts") / family
        done = command(
            *("--mode", "export_parts", "--model", family, "--output-dir", str(folder)),
            *("--max-tokens", str(LENGTH)),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return folder

    return make


def convert(engine: str, family: str, folder: Path) -> Path:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    chosen = ("--engine", engine, "--model", family, "--output-dir", str(folder))
    for mode in ("convert", "run_engine"):
        done = command("--mode", mode, *chosen, "--max-tokens", str(LENGTH))
        assert done.returncode == 0, done.stderr[-3000:]
        lines = done.stdout.splitlines()
        (row,) = (line for line in lines if line.startswith(f"{mode} "))
        assert row.endswith("equal"), done.stdout
        assert any(line.startswith(f"{mode}: largest relative error") for line in lines)
    return folder / "engines" / engine


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_saved_answers_as_the_model_does(
    engine: str, family: str, exported: Callable[[str], Path]
) -> None:
    folder = convert(engine, family, exported(family))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["digest"] == digest_manifest(manifest)
    assert manifest["engine"] == engine and manifest["versions"]
    parts = json.loads((exported(family) / "parts" / "manifest.json").read_text())["parts"]
    assert manifest["parts"].keys() == parts.keys()
    for part in manifest["parts"].values():
        assert part["programs"] and part["checked"]
        assert max(one["relative_l2"] for one in part["checked"]) < 1e-4
        assert all((folder / name).is_file() for name in part["files"])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_framework_alone_runs_what_was_saved(
    engine: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = convert(engine, ALONE, exported(ALONE))
    venv.create(tmp_path / "alone", with_pip=True)
    python = str(tmp_path / "alone" / "bin" / "python")
    needs = str(folder / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", needs], check=True)
    look = (
        "from importlib.util import find_spec;"
        f"names = {[*ENGINES, 'transformers', 'onnx', 'onnxruntime']};"
        "print([name for name in names if find_spec(name)])"
    )
    done = subprocess.run([python, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{engine!r}]\n"
    samples = take_samples(2)
    words = [w for s in samples for w in ("--image", str(s.picture), "--text", s.request)]
    script = [str(folder / f"{engine}_inference.py"), *words, "--max-tokens", str(LENGTH)]
    alone = run_alone([python, *script], tmp_path)
    beside = run_alone([sys.executable, *script], tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert len(alone.stdout.splitlines()) == 2
    assert alone.stdout == beside.stdout
    check_every_file(folder, [python, *script], tmp_path)


def run_alone(script: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True)


def check_every_file(folder: Path, script: list[str], elsewhere: Path) -> None:
    """A wrong byte is noticed in each kind of file, and named."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [name for part in manifest["parts"].values() for name in part["files"]]
    kinds = {Path(name).suffix: name for name in files}
    for name in (*kinds.values(), "pipeline.json", "tokenizer.json", "manifest.json"):
        path = folder / name
        content = path.read_bytes()
        place = content.index(b"1", len(content) // 2) if name == "manifest.json" else -1
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        done = run_alone(script, elsewhere)
        path.write_bytes(content)
        assert done.returncode == 1, name
        (line,) = done.stderr.splitlines()
        assert name in line and "manifest.json" in line


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "convert"], "it needs --engine, one of jax, mindspore, openvino, paddle"),
        (["--mode", "run_engine"], "it needs --engine"),
        (["--mode", "convert", "--engine", "onnxruntime"], "invalid choice: 'onnxruntime'"),
        (["--mode", "convert", "--engine", "tvm"], "invalid choice: 'tvm'"),
        (["--mode", "original", "--engine", "torch"], "it belongs to --mode convert"),
        (["--mode", "original", "--prompt-lengths", "9"], "it belongs to --mode convert"),
        (["--mode", "convert", "--engine", "torch", "--prompt-lengths", "0"], "from 1"),
        (["--mode", "convert", "--engine", "torch", "--prompt-lengths", "9"], "of any length"),
        (["--mode", "run_engine", "--engine", "torch", "--prompt-lengths", "9"], "which writes"),
        (["--mode", "export_parts", "--quantize"], "--quantize is for what --mode all runs"),
        (["--mode", "export_parts", "--simplify"], "--simplify is for"),
        (["--mode", "export_parts", "--pt"], "--pt is for"),
        (["--mode", "convert", "--engine", "torch", "--quantize"], "--quantize is for"),
        (["--mode", "convert", "--onnx-layout", "half"], "--onnx-layout is for"),
        (["--mode", "convert", "--engine", "torch", "--device", "cuda:99"], "device=cuda:99"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def test_a_missing_package_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(converter, "find_spec", lambda _: None)
    chosen = ("--engine", "paddle", "--output-dir", str(tmp_path / "none"))
    for mode in ("convert", "run_engine"):
        line = refused(capsys, "--mode", mode, *chosen)
        assert "paddle is not installed: pip install -r requirements-paddle.txt" in line
    assert not (tmp_path / "none").exists()


def test_what_was_not_converted_is_not_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen = ("--engine", "torch", "--output-dir", str(tmp_path))
    line = refused(capsys, "--mode", "run_engine", *chosen)
    assert "run --mode convert --engine torch first" in line


def write_manifest(folder: Path, **facts: object) -> None:
    manifest = {"model": "fuyu", "parts": {}, **facts}
    folder.mkdir(parents=True)
    content = {**manifest, "digest": digest_manifest(manifest)}
    (folder / "manifest.json").write_text(json.dumps(content))


def run_torch(folder: Path) -> str:
    chosen = ["--mode", "run_engine", "--engine", "torch", "--model", "fuyu", "--max-tokens", "2"]
    with pytest.raises(SystemExit) as ended:
        main([*chosen, "--output-dir", str(folder)])
    return str(ended.value.code)


def test_the_folder_of_another_model_is_not_run(tmp_path: Path) -> None:
    write_manifest(tmp_path / "engines" / "torch", weights_digest="0", engine="torch")
    assert "was converted from other weights: run --mode convert" in run_torch(tmp_path)


def test_a_folder_with_a_wrong_byte_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / "torch"
    write_manifest(folder, files={"tokenizer.json": {"bytes": 2, "sha256": "0" * 64}})
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is not the file that manifest.json lists" in run_torch(tmp_path)


@pytest.mark.parametrize(
    ("written", "reads"),
    [
        ("{}", "its digest differs"),
        ('{"engine": "torch", "parts": {}}', "its digest differs"),
        ('{"engine": "torch", "parts": {}, "digesT": "0"}', "its digest differs"),
        ("[]", "is not a manifest of parts"),
    ],
)
def test_a_manifest_without_its_digest_is_refused(written: str, reads: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(written)
    with pytest.raises(SystemExit, match=reads):
        read_manifest(tmp_path)
