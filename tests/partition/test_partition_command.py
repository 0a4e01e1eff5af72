"""The partition command: what it writes, what its table says, and how it refuses."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from profiling.partition import measuring, standalone
from profiling.partition.__main__ import main
from profiling.partition.outcomes import Outcome, compare, draw_table
from profiling.records import MEASURED, Reading, unavailable
from tests.marking import slow_except
from tests.tiny_models import FAMILIES

# Its vision part is one layer, so that nothing here waits for an export.
QUICK = "fuyu"
WRITTEN = (
    "vision_model/vision_model.safetensors",
    "vision_model/vision_model.pt",
    "language_model/language_model.safetensors",
    "onnx_model/vision_model.onnx",
    "model_config.json",
    "standalone/vision/vision_inference.py",
    "standalone/language/language_inference.py",
)


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = measuring._settings()
    latency = settings["latency"] | {"repeats": 2, "warmup_cap": 1}
    memory = settings["memory"] | {"passes": 1}
    monkeypatch.setattr(measuring, "_settings", lambda: {"latency": latency, "memory": memory})


def run(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> list[str]:
    main(["--output-dir", str(folder), "--max-tokens", "8", *arguments])
    return capsys.readouterr().out.splitlines()


def read_rows(lines: list[str]) -> dict[str, list[str]]:
    start = next(i for i, line in enumerate(lines) if line.startswith("mode "))
    return {line.split()[0]: line.split() for line in lines[start + 1 : -1]}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def check_all_modes(capsys: pytest.CaptureFixture[str], folder: Path, family: str) -> None:
    lines = run(capsys, folder, "--mode", "all", "--model", family, "--pt")
    rows = read_rows(lines)
    modes = ("original", "split_native", "convert_onnx", "run_onnx", "save_standalone")
    assert tuple(rows) == modes
    assert {row[-1] for row in rows.values()} == {"equal"}
    assert [name for name in WRITTEN if not (folder / name).is_file()] == []


def run_here(script: Path, options: Mapping[str, Any], elsewhere: Path) -> tuple[float, str]:
    """A saved script in this process, which has imported the libraries already."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told):
        patch.chdir(elsewhere)
        typed = [f"{name}={value}" for name, value in options.items()]
        patch.setattr("sys.argv", [str(script), *typed])
        patch.setattr("sys.path", [str(script.parent.absolute()), *sys.path])
        runpy.run_path(str(script.absolute()), run_name="__main__")
    # What lies beside one script is not what lies beside another.
    for beside in script.parent.glob("*.py"):
        sys.modules.pop(beside.stem, None)
    return 1.0, told.getvalue().strip()


def test_all_modes_answer_alike(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other families, and in `test_standalone`, the scripts run in their own processes."""
    monkeypatch.setattr(standalone, "run", run_here)
    check_all_modes(capsys, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != QUICK])
def test_all_modes_answer_alike_in_every_family(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, family: str
) -> None:
    check_all_modes(capsys, tmp_path, family)


@pytest.mark.parametrize("family", slow_except(FAMILIES, QUICK))
def test_split_answers_as_the_original_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, family: str
) -> None:
    rows = read_rows(run(capsys, tmp_path, "--mode", "split_native", "--model", family))
    assert [row[-1] for row in rows.values()] == ["equal", "equal"]
    assert not (tmp_path / "vision_model" / "vision_model.pt").exists()


@pytest.mark.slow
def test_parts_are_kept_for_the_same_values_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = tmp_path / "vision_model" / "vision_model.safetensors"
    run(capsys, tmp_path, "--mode", "split_native", "--model", QUICK)
    first = values.stat().st_mtime_ns
    run(capsys, tmp_path, "--mode", "split_native", "--model", QUICK)
    assert values.stat().st_mtime_ns == first
    run(capsys, tmp_path, "--mode", "split_native", "--model", "qwen25vl")
    with safe_open(values, framework="pt") as stored:
        assert any("blocks" in name for name in stored.keys())  # noqa: SIM118
    assert json.loads((tmp_path / "model_config.json").read_text())["model"] == "qwen25vl"


@pytest.mark.slow
def test_a_graph_of_other_values_is_not_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(capsys, tmp_path, "--mode", "convert_onnx", "--model", QUICK)
    run(capsys, tmp_path, "--mode", "split_native", "--model", "llava")
    line = refused(capsys, "--mode", "run_onnx", "--model", "llava", "--output-dir", str(tmp_path))
    assert "run --mode convert_onnx first" in line


def test_run_onnx_says_what_to_run_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = refused(capsys, "--mode", "run_onnx", "--output-dir", str(tmp_path))
    assert "run --mode convert_onnx first" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--mode"),
        (["--mode", "everything"], "invalid choice"),
        (["--mode", "original", "--model", "gpt"], "invalid choice"),
        (["--mode", "original", "--max-tokens", "0"], "not a whole number from 1"),
        (["--mode", "original", "--parts", "x"], "not a whole number from 1"),
        (["--mode", "original", "--image", "nowhere.png"], "there is no such file"),
        (["--mode", "original", "--device", "cuda:99"], "device=cuda:99"),
        (["--mode", "original", "--checkpoint", "./nowhere"], "model.checkpoint"),
        (["--mode", "original", "--weights", "tiny", "--checkpoint", "a/b"], "--weights"),
        (["--mode", "original", "--text", " "], "allowed is a question"),
        (["--mode", "original", "--output-dir", "README.md/x"], "--output-dir"),
        (["--mode", "all", "--quantize", "--onnx-layout", "half"], "--quantize needs single"),
        (["--mode", "convert_onnx", "--parts", "2"], "belongs to --onnx-layout parts"),
        (["--mode", "all", "--parts", "3", "--onnx-layout", "half"], "--onnx-layout parts"),
        (["--mode", "export_parts", "--parts", "3"], "--parts is for what --mode all runs"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def make_outcome(tokens: list[int] | None, text: str) -> Outcome:
    found = {"latency_s": (1.0, "s"), "vision_s": (0.2, "s"), "tokens_per_s": (3.0, "1/s")}
    found["cpu_memory_delta_bytes"] = (2_000_000, "bytes")
    readings = {
        metric: Reading(
            phase="total", metric=metric, value=value, unit=unit, status=MEASURED, source="told"
        )
        for metric, (value, unit) in found.items()
    }
    readings["projector_s"] = unavailable("projector_s", "none")
    return Outcome(
        mode="m", load_s=1.5, readings=readings, tokens=tokens, text=text, disk_bytes=3_000_000
    )


@pytest.mark.parametrize(
    ("tokens", "text", "verdict"),
    [
        ([1, 2, 3], "abc", "equal"),
        ([1, 2, 4], "abd", "differs after 2 of 3 tokens"),
        ([1, 2], "ab", "differs after 2 of 3 tokens"),
        ([1, 2, 3, 4], "abcd", "differs after 3 of 3 tokens"),
        (None, "abc", "equal"),
        (None, "abd", "differs"),
    ],
)
def test_the_verdict_compares_what_is_known(
    tokens: list[int] | None, text: str, verdict: str
) -> None:
    original = make_outcome([1, 2, 3], "abc")
    assert compare(make_outcome(tokens, text), original) == verdict


def test_the_table_leaves_blank_what_is_not_known() -> None:
    outcome = make_outcome([1, 2, 3], "abc")
    _, row = draw_table([outcome], outcome)
    assert row.split() == [
        *("m", "1.5000", "1.0000", "-", "-", "-", "0.2000", "-", "-", "3.0"),
        *("-", "2.0", "-", "-", "-", "3.0", "equal"),
    ]
