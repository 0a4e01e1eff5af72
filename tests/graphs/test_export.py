"""The exported vision part against the network's own, in single precision and in half."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from profiling.errors import ConfigError
from profiling.graphs.check import ExportFailed, distance
from profiling.graphs.export import MODEL_FILE, export_vision
from profiling.graphs.feeds import feeds_of, noise
from profiling.graphs.vision_chain import Chain, files_of, read_check
from profiling.models.model import Model
from profiling.runtimes.providers import CPU_PROVIDER
from tests.graphs.stressed import stressed
from tests.marking import slow_except
from tests.tiny_models import FAMILIES

CPU_DEVICE = torch.device("cpu")
# In the smallest sides of a family: width and height. None of them is used for the export.
SIDES = ([(15, 3)], [(7, 5)], [(2, 2)], [(24, 24)], [(7, 5), (7, 5)])
MIXED = [(15, 3), (2, 2), (7, 5), (9, 12)]

Export = Callable[..., tuple[Model, Path]]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports each thing once for all tests of this file."""

    @cache
    def make(
        family: str, layout: str = "single", dtype: str = "fp32", simplify: bool = False
    ) -> tuple[Model, Path]:
        model = stressed(family, dtype=dtype)
        folder = tmp_path_factory.mktemp(f"{family}-{layout}")
        path = export_vision(
            model, folder, layout=layout, parts=2, simplify=simplify, provider=CPU_PROVIDER
        )
        return model, path

    return make


def chain_of(paths: list[Path]) -> Chain:
    return Chain(
        paths,
        threads=1,
        provider=CPU_PROVIDER,
        provider_options={},
        device=CPU_DEVICE,
        optimized=False,
    )


def inputs_for(model: Model, sides: list[tuple[int, int]]) -> dict[str, Tensor]:
    side = model.family.processing.multiple
    sizes = [(width * side, height * side) for width, height in sides]
    return noise(model.family, sizes, seed=7, device=CPU_DEVICE)


def embed(model: Model, inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        return model.family.layout.embed(model.network, inputs)


def in_double(model: Model, inputs: dict[str, Tensor]) -> Tensor:
    network = copy.deepcopy(model.network).double()
    wide = {name: v.double() if v.is_floating_point() else v for name, v in inputs.items()}
    with torch.inference_mode():
        return model.family.layout.embed(network, wide)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "qwen25vl"))
def test_as_close_to_the_truth_as_the_network_itself(family: str, export: Export) -> None:
    model, path = export(family)
    chain = chain_of([path])
    mixed = [MIXED] if model.family.processing.keeps_aspect_ratio else []
    for sides in (*SIDES, *mixed):
        inputs = inputs_for(model, sides)
        truth = in_double(model, inputs)
        own = distance(embed(model, inputs), truth)["relative_l2"]
        found = distance(chain.run(feeds_of(model.family, inputs)), truth)["relative_l2"]
        assert found <= max(1e-5, 3 * own), sides


def shifted_windows(feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every window begins half a window too early."""
    shapes = {kind: feeds[f"window_{kind}"] for kind in ("gather", "mask")}
    count, half = shapes["gather"].numel(), shapes["gather"].shape[-1] // 2
    rolled = {
        f"window_{kind}": value.flatten().roll(half).reshape(value.shape)
        for kind, value in shapes.items()
    }
    return {**rolled, "window_scatter": (feeds["window_scatter"] + half) % count}


def test_the_stress_shows_wrong_windows(export: Export) -> None:
    """What the other tests rest on: a mistake in the windows is not small on these values."""
    model, path = export("qwen25vl")
    inputs = inputs_for(model, [(15, 3)])
    feeds = feeds_of(model.family, inputs)
    wrong = chain_of([path]).run({**feeds, **shifted_windows(feeds)})
    assert distance(wrong, embed(model, inputs))["relative_l2"] > 0.01


@pytest.mark.parametrize("family", slow_except(["qwen25vl", "llava"], "qwen25vl"))
@pytest.mark.slow
def test_parts_run_as_a_chain_and_as_one_file(family: str, export: Export) -> None:
    model, path = export(family, "parts")
    parts = files_of(path)
    assert [part.name for part in parts] == ["vision_model.part1.onnx", "vision_model.part2.onnx"]
    feeds = feeds_of(model.family, inputs_for(model, [(7, 5)]))
    one, chained = chain_of([path]).run(feeds), chain_of(parts).run(feeds)
    assert torch.equal(one, chained)
    assert distance(one, embed(model, inputs_for(model, [(7, 5)])))["relative_l2"] < 1e-5


@pytest.mark.slow
def test_the_joined_graph_stores_no_value_twice(export: Export) -> None:
    model, path = export("qwen25vl", "parts")
    stored = sum(file.stat().st_size for file in path.parent.glob("*.data"))
    tower = model.family.layout.tower(model.network)
    assert stored < 1.1 * sum(value.nbytes for value in tower.parameters())


@pytest.mark.slow
def test_simpler_parts_give_the_same(export: Export) -> None:
    model, path = export("llava", "parts", simplify=True)
    plain = export("llava", "parts")[1]
    assert count_nodes(path) < count_nodes(plain)
    inputs = inputs_for(model, [(7, 5)])
    found = chain_of([path]).run(feeds_of(model.family, inputs))
    assert distance(found, embed(model, inputs))["relative_l2"] < 1e-5


def count_nodes(path: Path) -> int:
    return len(onnx.load(str(path), load_external_data=False).graph.node)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype", "stored"),
    [
        ("fuyu", "bf16", torch.bfloat16),
        pytest.param("qwen25vl", "bf16", torch.bfloat16, marks=pytest.mark.slow),
        pytest.param("qwen25vl", "fp32", torch.float16, marks=pytest.mark.slow),
        pytest.param("llava", "fp16", torch.float16, marks=pytest.mark.slow),
    ],
)
def test_half_takes_half_the_room(
    family: str, dtype: str, stored: torch.dtype, export: Export
) -> None:
    model, path = export(family, "half", dtype)
    chain = chain_of([path])
    inputs = inputs_for(model, [(7, 5)])
    inputs["pixel_values"] = inputs["pixel_values"].to(stored)
    found = chain.run(feeds_of(model.family, inputs))
    assert (chain.dtype, found.dtype) == (stored, stored)
    computed = torch.float16 if stored == torch.float16 else torch.float32
    assert read_check(path)["computes_in"] == str(computed).removeprefix("torch.")
    values = sum(value.numel() for value in model.family.layout.tower(model.network).parameters())
    assert path.with_name(MODEL_FILE + ".data").stat().st_size < 2.2 * values
    wide = stressed(family, dtype=dtype)
    wide.network.float()
    inputs["pixel_values"] = inputs["pixel_values"].float()
    assert distance(found.float(), embed(wide, inputs))["relative_l2"] < 2e-2


def test_values_are_left_as_they_were(export: Export) -> None:
    model, _ = export("fuyu", "half", "bf16")
    vision = model.network.get_submodule(model.family.layout.parts.vision)
    assert {value.dtype for value in vision.parameters()} == {torch.bfloat16}


def test_the_record_says_what_was_checked(export: Export) -> None:
    _, path = export("qwen25vl")
    record = read_check(path)
    assert (record["dtype"], record["computes_in"]) == ("float32", "float32")
    stored = sum(one.stat().st_size for one in path.parent.glob("vision_model.onnx*"))
    assert record["bytes"] == stored
    assert len(record["checked"]) == 4
    assert all(0 < one["relative_l2"] < 1e-5 < one["cosine"] for one in record["checked"])
    assert record["make_s"] > 0


def test_a_wrong_graph_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stressed("fuyu")
    kind = type(model.family.layout)
    right = kind.embed
    monkeypatch.setattr(
        kind, "embed", lambda self, network, inputs: 1.01 * right(self, network, inputs)
    )
    with pytest.raises(ExportFailed, match=r"relative L2.*deleted"):
        export_vision(model, tmp_path, layout="single", parts=1, simplify=False, provider=None)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize(("layout", "parts"), [("double", 1), ("parts", 0)])
def test_wrong_options_are_refused(layout: str, parts: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        export_vision(
            stressed("fuyu"), tmp_path, layout=layout, parts=parts, simplify=False, provider=None
        )
