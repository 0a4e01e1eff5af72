"""A wrong byte anywhere in what is read is noticed, or gives another address."""

from __future__ import annotations

import logging
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from profiling.engines.transformers.engine import Inputs
from profiling.engines.transformers.finiteness import NonFinite
from profiling.errors import ConfigError
from profiling.files import digest_file
from profiling.machine import digests
from profiling.models.weights import locate
from profiling.parts.artifacts import make_once
from profiling.samples.pictures import PictureError, read_picture
from profiling.samples.samples import digest_samples, load_samples
from tests.attack.hostile import FAMILY, WEIGHTS, copy_checkpoint, make_samples
from tests.composing import compose_point
from tests.tiny_models import ask, build, encode, make_picture

SEED = 19


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def make(folder: Path) -> None:
    (folder / "inner").mkdir()
    for name in ("a.onnx", "a.onnx.data", "inner/b.json"):
        (folder / name).write_bytes(name.encode() * 1000)


@pytest.mark.parametrize("name", ["a.onnx", "a.onnx.data", "inner/b.json", "../.made.sha256.json"])
def test_a_cached_folder_with_a_wrong_byte_is_made_again(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(SEED)
    folder = make_once(tmp_path / "made", make)
    before = {path: digest_file(path) for path in folder.rglob("*") if path.is_file()}
    for _ in range(5):
        flip(folder / name, chance)
        with caplog.at_level(logging.WARNING, logger="profiling"):
            make_once(tmp_path / "made", make)
        assert {path: digest_file(path) for path in before} == before
    assert len(caplog.messages) == 5
    assert all("made again" in message for message in caplog.messages)


@pytest.mark.parametrize("damage", ["cut", "missing", "added", "link"])
def test_a_cached_folder_of_other_files_is_made_again(damage: str, tmp_path: Path) -> None:
    folder = make_once(tmp_path / "made", make)
    if damage == "cut":
        os.truncate(folder / "a.onnx.data", 100)
    elif damage == "missing":
        (folder / "inner" / "b.json").unlink()
    elif damage == "added":
        (folder / "c").write_text("")
    else:
        (folder / "a.onnx").unlink()
        (folder / "a.onnx").symlink_to("/dev/zero")
    make_once(tmp_path / "made", make)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "a.onnx",
        "a.onnx.data",
        "b.json",
    ]
    assert not (folder / "a.onnx").is_symlink()
    assert (folder / "a.onnx.data").read_bytes() == b"a.onnx.data" * 1000


def test_a_checkpoint_with_a_wrong_byte_has_another_address(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = copy_checkpoint(tmp_path / "checkpoint")
    point = compose_point(f"model={FAMILY}", "weights=pretrained", "model.revision=null")
    point = replace(point, checkpoint=str(folder))
    seen = {locate(point).digest}
    for number in range(1, 8):
        flip(folder / chance.choice([WEIGHTS, "tokenizer.json", "chat_template.jinja"]), chance)
        try:
            seen.add(locate(point).digest)
        except ConfigError:
            seen.add(f"refused {number}")
        assert len(seen) == number + 1


def test_a_large_file_that_is_remembered_is_read_again_where_it_was_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE_BYTES", 10)
    monkeypatch.setattr(digests, "_SETTLED_S", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large"
    path.write_bytes(b"0" * 1000)
    first = digests.digest_large(path)
    assert digests.digest_large(path) == first == digest_file(path)
    times = path.stat()
    path.write_bytes(b"0" * 500 + b"1" + b"0" * 499)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digests.digest_large(path) == digest_file(path) != first


def test_a_sample_with_a_wrong_byte_has_another_address(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = make_samples(tmp_path / "samples")
    seen = set()
    for number in range(1, 8):
        samples = load_samples(folder, count=None, at_most=None)
        seen.add(digest_samples(samples))
        assert len(seen) == number
        flip(samples[0].picture, chance)
        try:
            read_picture(samples[0].picture)
        except PictureError as error:
            assert "\n" not in str(error)


def write_checkpoint(folder: Path, change: str) -> tuple[Path, str]:
    tensors: dict[str, Tensor] = load_file(copy_checkpoint(folder) / WEIGHTS)
    # The library takes the last layer but one of the vision part, so not any tensor matters.
    name = sorted(name for name in tensors if name.endswith("down_proj.weight"))[-1]
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:-1].contiguous()
    elif change == "unexpected":
        name = "left.over"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = torch.full_like(tensors[name], float(change))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    # Where a layer lies in the network is not where it lies in the file.
    return folder, name.split(".layers.")[-1]


@pytest.mark.parametrize("change", ["missing", "shape", "unexpected", "nan", "inf"])
def test_a_checkpoint_that_is_not_whole_is_refused(change: str, tmp_path: Path) -> None:
    folder, name = write_checkpoint(tmp_path / "checkpoint", change)
    point = compose_point(f"model={FAMILY}", "weights=pretrained", f"model.checkpoint={folder}")
    if change not in ("nan", "inf"):
        with pytest.raises(ConfigError, match="tensors") as caught:
            build(point)
        assert name in str(caught.value)
        return
    engine = build(point)
    inputs = Inputs(encode(engine, [ask(engine, "what?", make_picture(90, 120))], 112), side=112)
    with pytest.raises(NonFinite, match="first in ") as failed:
        engine.generate(inputs, length=4, exact=False, trace=None)
    assert name.rpartition(".")[0].split(".")[-1] in str(failed.value)
