"""Splits a checkpoint on disk into parts, with a few megabytes of memory.

The bytes of each tensor are copied from shard to part without decoding, so every dtype survives.
Names stay those of the checkpoint, so the library reads the parts like the whole.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from profiling.files import LARGEST_INDEX, LARGEST_SETTINGS, open_file, read_bytes, read_json
from profiling.models.family import Family
from profiling.models.weights import INDEX as INDEX
from profiling.models.weights import list_shards, read_header
from profiling.parts.artifacts import digest_all, find_difference, replacing, size_bytes, write_json

MANIFEST = "model_config.json"
PARTS = ("vision", "language", "embedding")
_CHUNK_BYTES = 4 * 2**20
_SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of a checkpoint, by the location of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begins: int
    num_bytes: int


def file_of(folder: Path, part: str) -> Path:
    """The file with the weights of a part."""
    return folder / f"{part}_model" / f"{part}_model.safetensors"


def list_values(folder: Path, *, beside: bool = True) -> list[Value]:
    """All tensors of a checkpoint folder, from the headers of its shards only."""
    return [value for shard in list_shards(folder, beside=beside) for value in _values_in(shard)]


def _values_in(shard: Path) -> Iterator[Value]:
    with open_file(shard, at_most=None) as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
    for name, item in read_header(shard).items():
        if name == "__metadata__":
            continue
        begins, ends = item["data_offsets"]
        yield Value(
            name=name,
            dtype=item["dtype"],
            shape=tuple(item["shape"]),
            file=shard,
            begins=8 + length + begins,
            num_bytes=ends - begins,
        )


def cut(
    source: Path, folder: Path, *, family: Family, model: str, digest: str, embedding: bool
) -> Path:
    """Split a checkpoint folder; with `embedding` the token embedding is a third part."""
    parts = _sort_out(list_values(source, beside=False), family, embedding)
    for part, values in parts.items():
        copy_values(values, file_of(folder, part))
    _copy_settings(source, folder)
    return _write_manifest(folder, parts, family, model, digest)


def cut_network(
    network: Any,
    folder: Path,
    *,
    processor: Path,
    family: Family,
    model: str,
    digest: str,
    embedding: bool,
) -> Path:
    """Split a network in memory; `processor` is the folder with the tokenizer."""
    named = _without_ties(network.state_dict())
    for part, names in _group(named, family, embedding).items():
        with replacing(file_of(folder, part)) as unfinished:
            tensors = {name: named[name].contiguous().cpu() for name in names}
            save_file(tensors, unfinished, metadata={"format": "pt"})
    _copy_settings(processor, folder)
    write_json(folder / "config.json", family.config.to_dict())
    write_json(folder / "generation_config.json", network.generation_config.to_dict())
    parts = {
        part: list(_values_in(file_of(folder, part)))
        for part in PARTS
        if file_of(folder, part).is_file()
    }
    return _write_manifest(folder, parts, family, model, digest)


def _without_ties(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under its first name only."""
    first: dict[int, str] = {}
    for name, value in values.items():
        first.setdefault(value.data_ptr() if value.numel() else id(value), name)
    return {name: values[name] for name in first.values()}


def _sort_out(values: Sequence[Value], family: Family, embedding: bool) -> dict[str, list[Value]]:
    named = {value.name: value for value in values}
    groups = _group(named, family, embedding)
    return {part: [named[name] for name in names] for part, names in groups.items()}


def _group(named: Mapping[str, Any], family: Family, embedding: bool) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in named:
        part = family.layout.part_of(name)
        groups["language" if part == "embedding" and not embedding else part].append(name)
    return {part: names for part, names in groups.items() if names}


def copy_values(values: Sequence[Value], path: Path) -> None:
    """Copy tensors of one or several files into one file, in order and byte by byte."""
    with replacing(path) as unfinished, unfinished.open("wb") as target:
        target.write(_make_header(values))
        for value in values:
            _copy_bytes(value, target)


def _make_header(values: Sequence[Value]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for value in values:
        places = [offset, offset + value.num_bytes]
        header[value.name] = {"dtype": value.dtype, "shape": value.shape, "data_offsets": places}
        offset += value.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy_bytes(value: Value, target: Any) -> None:
    with open_file(value.file, at_most=None) as stream:
        stream.seek(value.begins)
        left = value.num_bytes
        while left:
            chunk = stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{value.file} ends within {value.name}")
            target.write(chunk)
            left -= len(chunk)


def _copy_settings(source: Path, folder: Path) -> None:
    """Copy configurations, tokenizer and templates."""
    for pattern in _SETTINGS:
        for path in sorted(source.glob(pattern)):
            if path.name not in (INDEX, MANIFEST):
                with replacing(folder / path.name) as unfinished:
                    unfinished.write_bytes(read_bytes(path, at_most=LARGEST_INDEX))


def _write_manifest(
    folder: Path, parts: Mapping[str, Sequence[Value]], family: Family, model: str, digest: str
) -> Path:
    """Write the manifest, and indices for the library to read the parts alone or together."""
    places = {v.name: (part, v) for part, values in parts.items() for v in values}
    _write_index(folder, folder, places)
    for part in parts:
        home = file_of(folder, part).parent
        # The head may be tied to the embedding, so the language part needs it.
        wanted = {part} | ({"embedding"} if part == "language" else set())
        _write_index(home, folder, {n: found for n, found in places.items() if found[0] in wanted})
        for name in ("config.json", "generation_config.json"):
            if (folder / name).is_file():
                with replacing(home / name) as unfinished:
                    shutil.copyfile(folder / name, unfinished)
    write_json(folder / MANIFEST, _describe(folder, parts, family, model, digest))
    return folder


def _write_index(home: Path, folder: Path, places: Mapping[str, tuple[str, Value]]) -> None:
    up = "" if home == folder else "../"
    names = {name: f"{up}{_name_of(folder, part)}" for name, (part, _) in places.items()}
    total = sum(value.num_bytes for _, value in places.values())
    write_json(home / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


def _describe(
    folder: Path, parts: Mapping[str, Sequence[Value]], family: Family, model: str, digest: str
) -> dict[str, Any]:
    return {
        "format_version": 1,
        "model": model,
        "weights_digest": digest,
        "image_token_id": family.processing.image_token_id,
        "embedding_width": int(family.config.text_config.hidden_size),
        "parts": {
            part: {
                "file": _name_of(folder, part),
                "config": f"{part}_model/config.json",
                "num_values": len(values),
                "num_parameters": sum(math.prod(value.shape) for value in values),
                "dtypes": sorted({value.dtype for value in values}),
                "bytes": size_bytes(file_of(folder, part)),
                "sha256": digest_all(folder, [file_of(folder, part)])[_name_of(folder, part)],
            }
            for part, values in parts.items()
        },
    }


def _name_of(folder: Path, part: str) -> str:
    return file_of(folder, part).relative_to(folder).as_posix()


def find_damage(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """How the parts differ from their manifest; None where they do not."""
    known = {part["file"]: part["sha256"] for part in manifest["parts"].values()}
    present = [folder / name for name in known if (folder / name).is_file()]
    return find_difference(folder, known, present)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of parts."""
    content: dict[str, Any] = read_json(folder / MANIFEST, at_most=LARGEST_SETTINGS)
    return content


def write_pt(folder: Path) -> Path:
    """Write the vision part as a `.pt` file: a dictionary of tensors, without code."""
    path = file_of(folder, "vision").with_suffix(".pt")
    with safe_open(file_of(folder, "vision"), framework="pt") as stored:
        values = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    with replacing(path) as unfinished:
        torch.save(values, unfinished)
    return path
