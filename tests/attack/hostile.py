"""Checkpoints and sample folders that were written to break their readers."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiling.models.weights import CHECKPOINTS
from tests.composing import make_dataset, write_index

FAMILY = "llava"
Damage = Callable[[Path], object]
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
DEEP = "[" * 100_000
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


def copy_checkpoint(folder: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINTS / "tiny" / FAMILY, folder))


def _fifo(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def _link(name: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


def _folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def _text(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def _bytes(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def _large(name: str, size: int) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("wb") as stream:
            stream.truncate(size)

    return damage


def _config(**values: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, **values}), encoding="utf-8")

    return damage


def _header(content: object) -> Damage:
    text = json.dumps(content).encode()
    return _bytes(WEIGHTS, struct.pack("<Q", len(text)) + text)


def _index(weight_map: object) -> Damage:
    return _text(INDEX, json.dumps({"weight_map": weight_map}))


_KERNEL = "somebody/kernel"
CHECKPOINT_DAMAGES: dict[str, Damage] = {
    "config nested deeply": _text("config.json", DEEP),
    "config a FIFO": _fifo("config.json"),
    "config endless": _link("config.json", "/dev/zero"),
    "config a folder": _folder("config.json"),
    "config too large": _large("config.json", 2**31),
    "config no text": _bytes("config.json", b"\xff\xfe\x00"),
    "config with long digits": _text("config.json", '{"a": ' + "9" * 5000 + "}"),
    "config a number": _text("config.json", "1"),
    "config of a kernel": _config(_attn_implementation=_KERNEL),
    "config of a kernel inside": _config(text_config={"attn_implementation": _KERNEL}),
    "config of a kernel by part": _config(_attn_implementation={"": "sdpa", "x": _KERNEL}),
    "a folder with the name of a file": _folder("zzz.json"),
    "tokenizer a FIFO": _fifo("tokenizer.json"),
    "template a FIFO": _fifo("chat_template.jinja"),
    "picture settings endless": _link("preprocessor_config.json", "/dev/zero"),
    "weights a FIFO": _fifo(WEIGHTS),
    "weights endless": _link(WEIGHTS, "/dev/zero"),
    "weights a link to themselves": _link(WEIGHTS, WEIGHTS),
    "header longer than the file": _bytes(WEIGHTS, struct.pack("<Q", 2**40) + b"{}"),
    "header nested deeply": _bytes(WEIGHTS, struct.pack("<Q", len(DEEP)) + DEEP.encode()),
    "header a list": _header([]),
    "header with a number": _header({"a": 1}),
    "header without offsets": _header({"a": {"dtype": "F32", "shape": [1]}}),
    "header with one offset": _header({"a": {"data_offsets": [1]}}),
    "header with texts": _header({"a": {"data_offsets": ["x", "y"]}}),
    "header with nulls": _header({"a": {"data_offsets": None}}),
    "index a list": _index([]),
    "index of nulls": _index({"a": None}),
    "index of numbers": _index({"a": 1}),
    "index of lists": _index({"a": ["b"]}),
    "index without files": _index({}),
    "index null": _index(None),
    "index that leaves the folder": _index({"a": "../model.safetensors"}),
    "index with an absolute path": _index({"a": "/etc/passwd"}),
    "index that goes out and in": _index({"a": "x/../../model.safetensors"}),
    "index of a missing file": _index({"a": "absent.safetensors"}),
    "index nested deeply": _text(INDEX, DEEP),
    "index a FIFO": _fifo(INDEX),
    "index with a long name": _index({"a": "x" * 5000}),
}


def _entry(**values: object) -> Damage:
    def damage(folder: Path) -> None:
        (first, *rest) = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        write_index(folder, [{**first, **values}, *rest])

    return damage


_FIRST = "pictures/0.png"
DATA_DAMAGES: dict[str, Damage] = {
    "index a FIFO": _fifo("samples.json"),
    "index endless": _link("samples.json", "/dev/zero"),
    "index a folder": _folder("samples.json"),
    "index nested deeply": _text("samples.json", DEEP),
    "index too large": _large("samples.json", 2**31),
    "index no text": _bytes("samples.json", b"\xff\xfe"),
    "index of numbers": _text("samples.json", "[1]"),
    "index with long digits": _text("samples.json", "[" + "9" * 5000 + "]"),
    "picture a FIFO": _fifo(_FIRST),
    "picture endless": _link(_FIRST, "/dev/zero"),
    "picture a link to itself": _link(_FIRST, "0.png"),
    "picture a folder": _folder(_FIRST),
    "picture too large": _large(_FIRST, 2**31),
    "picture a program for a printer": _bytes(_FIRST, EPS),
    "picture empty": _bytes(_FIRST, b""),
    "picture cut": lambda folder: os.truncate(folder / _FIRST, 40),
    "picture elsewhere": _entry(image_path="../elsewhere.png"),
    "picture at an absolute place": _entry(image_path="/etc/passwd"),
    "picture with a long name": _entry(image_path="x" * 5000),
    "picture with a null byte": _entry(image_path="a\0b"),
    "picture a list": _entry(image_path=[]),
    "request nothing": _entry(request="  "),
    "request a lone surrogate": _entry(request="\ud800"),
    "response nested": _entry(response=[["a"]]),
    "response nothing": _entry(response=[]),
}


def make_samples(folder: Path) -> Path:
    make_dataset(folder)
    return folder
