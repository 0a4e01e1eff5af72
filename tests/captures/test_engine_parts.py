"""Parts of another engine on captured calls: right ones agree, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import profiling.capture
import profiling.verify
from profiling.captures.findings import AGREES, DIFFERS, Findings
from profiling.captures.folder import Capture
from profiling.captures.judgements import judge_parts
from profiling.captures.originals import load_original, overrides_of
from profiling.captures.point_calls import load_engine
from profiling.engines.transformers import graph_index
from profiling.points.point import Point
from profiling.runtimes.runtime import find_runtime
from tests.composing import compose_point
from tests.tiny_models import FAMILIES

onnx: Any = pytest.importorskip("onnx")
SIZE = ("--samples", "1", "--uneven", "2", "--tokens", "2", "--calls", "4")
# Its vision part is exported in no time.
FAST = "fuyu"


def capture(family: str, folder: Path) -> Capture:
    arguments = ["--model", family, "--output", str(folder), "--device", "cpu", *SIZE]
    profiling.capture.main(arguments)
    torch.set_num_threads(1)
    return Capture(folder)


def point_of(found: Capture, *more: str) -> Point:
    return compose_point(*overrides_of(found), *more)


def open_engine(found: Capture, *more: str) -> Any:
    point = point_of(found, "engine=onnxruntime", *more)
    if graph_index.find(point) is None:
        graph_index.make(point)
    engine = load_engine(point)
    torch.set_num_threads(1)
    return engine


def judge(found: Capture, engine: Any) -> Findings:
    return judge_parts(found, load_original(found, point_of(found)), engine)


def plant(path: Path, point: Point, folder: Path) -> Any:
    """The program of a graph in which one weight is 1% larger."""
    graph = onnx.load(path)
    weights = [one for one in graph.graph.initializer if len(one.dims) == 2]
    wrong = weights[len(weights) // 2]
    values = onnx.numpy_helper.to_array(wrong) * 1.01
    wrong.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), wrong.name))
    onnx.save(graph, folder / "wrong.onnx")
    settings = point.engine_settings
    runtime = find_runtime(settings["runtime"]).of(device="cpu", threads=1, settings=settings)
    return runtime.open(folder / "wrong.onnx")


def plant_in(engine: Any, part: str, point: Point, folder: Path) -> None:
    graphs = graph_index.find(point)
    assert graphs is not None
    kind = "ProgramVision" if part == "vision" else "RuntimeDecoder"
    modules = list(engine.network.modules())
    holders = [getattr(module, "chain", module) for module in modules]
    (holder,) = (one for one in holders if type(one).__name__ == kind)
    text = None if graphs.text is None else graphs.text / "decoder.onnx"
    path = graphs.vision if part == "vision" else text
    assert path is not None
    holder.program = plant(path, point, folder)


@pytest.mark.parametrize("part", ["vision", pytest.param("decoder", marks=pytest.mark.slow)])
def test_a_right_part_agrees_and_a_wrong_weight_is_found(part: str, tmp_path: Path) -> None:
    found, parts = capture(FAST, tmp_path / "calls"), f"engine.parts=[{part}]"
    engine = open_engine(found, parts)
    right = judge(found, engine)
    assert right.status == AGREES, right.sentences
    (path,) = {row["module"] for row in right.rows}
    plant_in(engine, part, point_of(found, "engine=onnxruntime", parts), tmp_path)
    wrong = judge(found, engine)
    assert wrong.status == DIFFERS
    fails = [told for told in wrong.sentences if told.startswith("FAILS")]
    assert len(fails) == 1 and path in fails[0]
    assert "times the original's own" in fails[0]


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["[vision]", "[decoder]", "null"])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_each_family_agree(family: str, parts: str, tmp_path: Path) -> None:
    found = capture(family, tmp_path / "calls")
    verdict = judge(found, open_engine(found, f"engine.parts={parts}"))
    assert verdict.status == AGREES, verdict.sentences
    assert len(verdict.rows) >= 2


@pytest.mark.slow
def test_the_command_judges_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = capture(FAST, tmp_path / "calls")
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main([str(found.folder), "--engine", "onnxruntime"])
    torch.set_num_threads(1)
    assert ended.value.code == 0
    assert "judged calls agree" in capsys.readouterr().out
