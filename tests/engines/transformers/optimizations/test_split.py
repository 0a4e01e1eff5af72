"""The split variant: the same answers from the parts, cut once, and what that cost."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.machine.cache import cache_root
from profiling.models import loading
from profiling.models.weights import CHECKPOINTS, WeightsSource
from profiling.parts.artifacts import make_once
from profiling.points.point import Point
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask, build, load, make_picture


def questions(engine: TransformersEngine) -> list:
    return [
        ask(engine, "what is this thing over here?", make_picture(200, 100)),
        ask(engine, "who", make_picture(90, 140, seed=1)),
    ]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(
        product(FAMILIES, ("baseline", "bf16")), ("blip2_t5", "baseline"), ("llava", "bf16")
    ),
)
def test_split_answers_as_the_plain_model_does(family: str, name: str) -> None:
    plain = load(family, f"optimization={name}")
    split = build(compose_point(f"model={family}", f"optimization=[{name},split]"))
    assert split.model.dtype == plain.model.dtype
    assert answer(split, questions(split), 120) == answer(plain, questions(plain), 120)


@pytest.mark.parametrize("embedding", ["true", "false"])
def test_what_it_cost_is_noted(embedding: str) -> None:
    chosen = f"optimization.split.embedding={embedding}"
    cost = build(compose_point("model=qwen25vl", "optimization=split", chosen)).loaded.build
    stored = (CHECKPOINTS / "tiny" / "qwen25vl" / "model.safetensors").stat().st_size
    assert cost.make_s is not None and cost.make_s > 0
    assert cost.make_peak_bytes is not None and cost.make_peak_bytes >= 0
    assert cost.artifact_bytes is not None and stored * 0.99 < cost.artifact_bytes < stored * 1.01


def test_parts_are_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    point = compose_point("model=llava", "optimization=split")
    first = build(point)
    made = {p: p.stat().st_mtime_ns for p in cache_root().rglob("*.safetensors")}
    second = build(point)
    assert made == {p: p.stat().st_mtime_ns for p in cache_root().rglob("*.safetensors")}
    assert len(made) == 2
    assert first.loaded.build == second.loaded.build


@pytest.mark.parametrize("family", slow_except(FAMILIES, "llava"))
def test_random_values_are_those_of_the_plain_model(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = str(CHECKPOINTS / "tiny" / family)

    def small(point: Point) -> WeightsSource:
        options = {"local_files_only": True}
        return WeightsSource(
            config=tiny, processor=tiny, values="random", options=options, digest="d"
        )

    monkeypatch.setattr(loading, "locate", small)
    plain, split = (
        build(compose_point(f"model={family}", "weights=random", f"optimization={name}")).model
        for name in ("fp32", "[fp32,split]")
    )
    expected = plain.network.state_dict()
    found = split.network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert (split.stored_values, split.dtype) == (plain.stored_values, plain.dtype)


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("of it")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        make_once(tmp_path / "made", fail)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
