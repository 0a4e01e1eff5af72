"""Cutting a checkpoint: every value in one part, byte for byte, and nothing torn left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from profiling.models.weights import CHECKPOINTS
from profiling.parts.cutting import (
    INDEX,
    PARTS,
    cut,
    cut_network,
    file_of,
    read_manifest,
    write_pt,
)
from tests.graphs.stressed import make_stressed
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load


def cut_tiny(family: str, folder: Path, *, source: Path | None = None, embedding: bool = False):
    source = source or CHECKPOINTS / "tiny" / family
    known = load(family).family
    return cut(source, folder, family=known, model=family, digest="d", embedding=embedding)


def read_parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    files = {part: file_of(folder, part) for part in PARTS}
    return {part: load_file(file) for part, file in files.items() if file.is_file()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_is_in_one_part_as_it_was(family: str, tmp_path: Path) -> None:
    whole = load_file(CHECKPOINTS / "tiny" / family / "model.safetensors")
    parts = read_parts(cut_tiny(family, tmp_path, embedding=True))
    assert set(parts) == set(PARTS)
    names = [name for values in parts.values() for name in values]
    assert sorted(names) == sorted(whole)
    for values in parts.values():
        assert all(torch.equal(value, whole[name]) for name, value in values.items())
        assert all(value.dtype == whole[name].dtype for name, value in values.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_hold_what_their_names_say(family: str, tmp_path: Path) -> None:
    model = load(family).model
    parts = read_parts(cut_tiny(family, tmp_path, embedding=True))
    seeing = sum(
        value.numel()
        for name, value in model.network.named_parameters()
        if name.startswith(
            (*model.family.layout.vision_paths, *model.family.layout.vision_parameters)
        )
    )
    embedding = model.network.get_input_embeddings().weight
    assert sum(value.numel() for value in parts["vision"].values()) == seeing
    assert {value.shape for value in parts["embedding"].values()} == {embedding.shape}


def test_without_a_third_part_the_embedding_is_with_the_language_model(tmp_path: Path) -> None:
    parts = read_parts(cut_tiny("qwen25vl", tmp_path))
    assert set(parts) == {"vision", "language"}
    assert "model.embed_tokens.weight" in parts["language"]


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_opt", "qwen25vl"))
def test_shards_give_the_parts_that_one_file_gives(family: str, tmp_path: Path) -> None:
    one = make_stressed(family, tmp_path / "one")
    many = make_stressed(family, tmp_path / "many", shards=3)
    first = read_parts(cut_tiny(family, tmp_path / "a", source=one))
    second = read_parts(cut_tiny(family, tmp_path / "b", source=many))
    assert {part: set(values) for part, values in first.items()} == {
        part: set(values) for part, values in second.items()
    }
    for part, values in first.items():
        assert all(torch.equal(value, second[part][name]) for name, value in values.items())


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "qwen25vl"))
def test_the_folder_of_parts_is_a_checkpoint_itself(family: str, tmp_path: Path) -> None:
    plain = load(family).model
    cut_tiny(family, tmp_path, embedding=True)
    found = plain.family.layout.network_class.from_pretrained(tmp_path, dtype=plain.dtype)
    expected = plain.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_what_is_tied_is_stored_once_and_stays_tied(tmp_path: Path) -> None:
    plain = load("qwen25vl").model
    cut_tiny("qwen25vl", tmp_path, embedding=True)
    assert [name for name in read_parts(tmp_path)["language"] if "lm_head" in name] == []
    found = plain.family.layout.network_class.from_pretrained(tmp_path, dtype=plain.dtype)
    assert found.lm_head.weight is found.get_input_embeddings().weight


@pytest.mark.parametrize("family", slow_except(FAMILIES, "fuyu", "llava"))
def test_values_that_were_never_on_disk_are_cut_too(family: str, tmp_path: Path) -> None:
    plain = load(family).model
    cut_network(
        plain.network,
        tmp_path,
        processor=CHECKPOINTS / "tiny" / family,
        family=plain.family,
        model=family,
        digest="d",
        embedding=False,
    )
    found = plain.family.layout.network_class.from_pretrained(tmp_path, dtype=plain.dtype)
    expected = plain.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_one_file_ties_the_parts_together(tmp_path: Path) -> None:
    manifest = read_manifest(cut_tiny("llava", tmp_path))
    assert (manifest["model"], manifest["weights_digest"]) == ("llava", "d")
    for part, told in manifest["parts"].items():
        with safe_open(tmp_path / told["file"], framework="pt") as stored:
            assert len(stored.keys()) == told["num_values"]
        assert (tmp_path / told["file"]).stat().st_size == told["bytes"]
        assert (tmp_path / told["config"]).is_file(), part


def test_the_old_form_holds_tensors_and_no_code(tmp_path: Path) -> None:
    cut_tiny("qwen25vl", tmp_path)
    values = torch.load(write_pt(tmp_path), weights_only=True)
    stored = read_parts(tmp_path)["vision"]
    assert values.keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in values.items())


def test_a_torn_checkpoint_leaves_no_part(tmp_path: Path) -> None:
    source = shutil.copytree(CHECKPOINTS / "tiny" / "qwen25vl", tmp_path / "torn")
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="ends within"):
        cut_tiny("qwen25vl", tmp_path / "parts", source=source)
    assert [path for path in (tmp_path / "parts").rglob("*") if path.is_file()] == []


def test_the_indices_name_files_that_are_there(tmp_path: Path) -> None:
    cut_tiny("blip2_opt", tmp_path, embedding=True)
    for index in tmp_path.rglob(INDEX):
        names = json.loads(index.read_text())["weight_map"].values()
        assert all((index.parent / name).is_file() for name in names)
