"""The split variant: the same answers from the parts, cut once, and what that cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.optimizations.optimization import build_model
from profiling.machine.cache import cache_root
from profiling.models import loading
from profiling.models.model import Model
from profiling.models.weights import CHECKPOINTS, WeightsSource
from profiling.parts.artifacts import make_once
from profiling.points.point import Point
from tests.composing import compose_point
from tests.tiny_models import FAMILIES, answer, ask, load, make_picture


def questions(model: Model) -> list:
    return [
        ask(model, "what is this thing over here?", make_picture(200, 100)),
        ask(model, "who", make_picture(90, 140, seed=1)),
    ]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["baseline", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_split_answers_as_the_plain_model_does(family: str, name: str) -> None:
    plain = load(family, f"optimization={name}")
    model = build_model(compose_point(f"model={family}", f"optimization=[{name},split]"))
    assert model.dtype == plain.dtype
    assert answer(model, questions(model), 120) == answer(plain, questions(plain), 120)


@pytest.mark.parametrize("embedding", ["true", "false"])
def test_what_it_cost_is_noted(embedding: str) -> None:
    chosen = f"optimization.split.embedding={embedding}"
    model = build_model(compose_point("model=qwen25vl", "optimization=split", chosen))
    stored = (CHECKPOINTS / "tiny" / "qwen25vl" / "model.safetensors").stat().st_size
    assert model.notes["make_s"] > 0
    assert model.notes["make_peak_bytes"] >= 0
    assert stored * 0.99 < model.notes["artifact_bytes"] < stored * 1.01


def test_parts_are_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    point = compose_point("model=llava", "optimization=split")
    first = build_model(point)
    made = {p: p.stat().st_mtime_ns for p in cache_root().rglob("*.safetensors")}
    second = build_model(point)
    assert made == {p: p.stat().st_mtime_ns for p in cache_root().rglob("*.safetensors")}
    assert len(made) == 2
    assert first.notes == second.notes


@pytest.mark.parametrize("family", FAMILIES)
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
        build_model(compose_point(f"model={family}", "weights=random", f"optimization={name}"))
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
