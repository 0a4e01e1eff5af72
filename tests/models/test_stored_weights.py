"""Checkpoint folders as the library writes them load; an error names what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from profiling.errors import ConfigError
from profiling.models.model import Model, Prepared
from profiling.models.weights import CHECKPOINTS, describe_weights, locate
from profiling.points.point import Point
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    build,
    encode,
    first_logits,
    load,
    make_picture,
)

SIDE = 120


def point_to(folder: Path, family: str, *overrides: str) -> Point:
    return compose_point(
        f"model={family}", "weights=pretrained", f"model.checkpoint={folder}", *overrides
    )


def ask_two(model: Model) -> list[Prepared]:
    return [ask(model, q, make_picture(90, 120, seed=i)) for i, q in enumerate(("what?", "a b c"))]


@pytest.fixture(scope="module", params=slow_except(FAMILIES, "blip2_opt", "fuyu"))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded checkpoint written again by the library, in several shards."""
    folder = tmp_path_factory.mktemp("saved") / request.param
    shutil.copytree(CHECKPOINTS / "tiny" / request.param, folder)
    (folder / "model.safetensors").unlink()
    load(request.param).network.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


def test_a_folder_with_shards_gives_the_same_answers(saved: Path) -> None:
    family = saved.name
    model, original = build(point_to(saved, family)).model, load(family).model
    assert model.stored_values
    one, other = (first_logits(m, encode(m, ask_two(m), SIDE), SIDE) for m in (model, original))
    # Not bit-equal: the address of a tensor can change the kernel.
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    assert answer(model, ask_two(model), SIDE) == answer(original, ask_two(original), SIDE)


def test_every_missing_shard_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    for shard in sorted(folder.glob("model-*.safetensors")):
        gone = shard.rename(tmp_path / "gone")
        with pytest.raises(ConfigError, match=f"there is no {shard.name}"):
            locate(point_to(folder, saved.name))
        gone.rename(shard)


def test_a_torn_shard_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(saved, folder)
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=shard.name):
        locate(point_to(folder, saved.name))


@pytest.mark.parametrize("given", FAMILIES)
@pytest.mark.parametrize("asked", FAMILIES)
def test_a_checkpoint_of_another_family_is_refused(given: str, asked: str) -> None:
    point = point_to(CHECKPOINTS / "tiny" / given, asked)
    if given == asked:
        assert locate(point).values == "stored"
        return
    with pytest.raises(ConfigError, match=r"model\.checkpoint=.*model_type"):
        locate(point)


def test_a_configuration_with_its_text_values_at_the_top_loads(tmp_path: Path) -> None:
    """The way in which the public checkpoint of this family is written."""
    folder = tmp_path / "flat"
    shutil.copytree(CHECKPOINTS / "tiny" / "qwen25vl", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    (folder / "config.json").write_text(json.dumps({**text, **config}), encoding="utf-8")
    model, original = build(point_to(folder, "qwen25vl")).model, load("qwen25vl").model
    one, other = (first_logits(m, encode(m, ask_two(m), SIDE), SIDE) for m in (model, original))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no configuration": (drop("config.json"), "there is no config.json"),
    "no weights": (drop("model.safetensors"), "there is no model.safetensors"),
    "no tokenizer": (
        lambda folder: [path.unlink() for path in folder.glob("tokenizer*")] and None,
        "there is no tokenizer.json",
    ),
    "configuration cut off": (write("config.json", '{"model_type": "lla'), "cannot be read"),
    "configuration a list": (write("config.json", "[]"), "not an object"),
    "text where weights should be": (write("model.safetensors", "no weights"), "safetensors"),
    "empty weights": (write("model.safetensors", ""), "safetensors"),
    "text model of no kind": (
        write("config.json", '{"model_type": "llava", "text_config": "llama"}'),
        r"text_config\.model_type None",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_with_a_folder_is_named(name: str, tmp_path: Path) -> None:
    damage, expected = DAMAGES[name]
    folder = tmp_path / "llava"
    shutil.copytree(CHECKPOINTS / "tiny" / "llava", folder)
    damage(folder)
    with pytest.raises(ConfigError, match=expected) as caught:
        locate(point_to(folder, "llava"))
    assert str(caught.value).startswith(f"model.checkpoint={folder}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-folder", "./here", "/a/b", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        locate(point_to(Path(name), "llava"))


def test_a_hub_name_is_pinned_to_its_revision() -> None:
    point = compose_point("model=llava", "weights=pretrained")
    source = locate(point)
    assert source.options == {"revision": point.revision}
    assert str(point.revision) in source.digest
    assert str(point.revision) in describe_weights(point)


def test_the_digest_tells_other_weights_and_not_other_places(tmp_path: Path) -> None:
    original = CHECKPOINTS / "tiny" / "llava"
    copies = [tmp_path / name for name in ("one", "two")]
    for folder in copies:
        shutil.copytree(original, folder)
    weights = copies[1] / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    digests = [locate(point_to(f, "llava")).digest for f in (original, *copies)]
    assert digests[0] == digests[1] != digests[2]
