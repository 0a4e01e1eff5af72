"""What reports tell a person to type is a command that names the same points."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from profiling.report import Run, read_runs
from profiling.report.say.advice import MAIN, VERSUS, say_how_to_pair, say_how_to_repeat
from tests.composing import compose_point
from tests.report.synthetic import write_run


def two_runs(folder: Path, **second: object) -> tuple[Run, Run]:
    write_run(folder, model="llava", img_size=112)
    name = write_run(folder, **{"model": "llava", "img_size": 112, **second}).name  # type: ignore[arg-type]
    runs = {run.name: run for run in read_runs(folder).runs}
    other = runs.pop(name)
    return next(iter(runs.values())), other


def test_both_sides_are_typed_with_what_they_share(tmp_path: Path) -> None:
    said = say_how_to_pair(*two_runs(tmp_path, optimization="bf16+onnx_vision"))
    words = shlex.split(said.removeprefix(VERSUS))
    assert words[:2] == ["optimization=baseline", "optimization=[bf16,onnx_vision]"]
    assert f"results_dir={tmp_path}" in words
    points = [compose_point(*words[2:], *shlex.split(side)) for side in words[:2]]
    assert [point.img_size for point in points] == [112, 112]
    assert [point.profiler["name"] for point in points] == ["quick", "quick"]
    assert list(points[1].as_config()["optimization"]) == ["bf16", "onnx_vision"]


def test_equal_settings_are_measured_in_rounds(tmp_path: Path) -> None:
    said = say_how_to_pair(*two_runs(tmp_path, suffix="-2"))
    assert said.startswith(f"{MAIN} model=llava")
    assert "round=1,2,3" in said


def set_config(folder: Path, root: str, value: object) -> None:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    run["config"][root] = value
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")


def test_the_settings_of_what_is_compared_are_typed_too(tmp_path: Path) -> None:
    chosen = compose_point(
        "model=llava", "optimization=[bf16,token_pruning]", "optimization.token_pruning.keep=0.25"
    )
    for name in ("baseline", "bf16+token_pruning"):
        folder = write_run(tmp_path, model="llava", img_size=112, optimization=name)
        set_config(folder, "dataset", {"name": "textvqa", "folder": "/own data"})
        engine = {"name": "onnxruntime", "room": "transformers", "precision": "int8"}
        set_config(folder, "engine", engine)
    set_config(folder, "optimization", chosen.as_config()["optimization"])
    sides = sorted(read_runs(tmp_path).runs, key=lambda run: str(run["optimization"]))
    words = shlex.split(say_how_to_pair(*sides).removeprefix(VERSUS))
    assert words[0] == "optimization=baseline"
    assert {"dataset.folder=/own data", "engine.precision=int8"} <= set(words[2:])
    assert not any(word.startswith("optimization") for word in words[2:])
    typed = [one for one in shlex.split(words[1]) if one.startswith("optimization")]
    point = compose_point("model=llava", *typed)
    assert point.as_config()["optimization"] == chosen.as_config()["optimization"]
    first, second = say_how_to_repeat(*sides).split(" && ")
    assert "keep" not in first and "optimization.token_pruning.keep=0.25" in second


def test_rounds_of_both_are_typed_as_one_sweep(tmp_path: Path) -> None:
    said = say_how_to_repeat(*two_runs(tmp_path, optimization="bf16+onnx_vision"), rounds=4)
    words = shlex.split(said.removeprefix(MAIN))
    assert words[0] == "optimization=baseline,[bf16,onnx_vision]"
    assert words[-1] == "round=1,2,3,4"
    swept = OverridesParser.create().parse_override(words[0])
    assert list(swept.sweep_string_iterator()) == ["baseline", "[bf16,onnx_vision]"]
