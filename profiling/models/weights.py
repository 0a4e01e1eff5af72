"""The source of a point's weights: a folder or a hub repository, and what is in it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.points.point import Point

CHECKPOINTS = PROJECT / "checkpoints"
_WHOLE_FILES_UP_TO = 64 * 2**20
_PICTURE_SETTINGS = ("preprocessor_config", "processor_config")


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """What to load: `processor` and `config` name a folder or a hub repository."""

    config: str
    processor: str
    values: str  # "stored" or "random"
    options: dict[str, Any]
    digest: str


def locate(point: Point) -> WeightsSource:
    """The source of a point's weights, checked without reading a large file."""
    if point.weights == "pretrained":
        return _pretrained(point)
    tiny = CHECKPOINTS / "tiny" / point.model
    check_folder(tiny, point.model)
    config = tiny if point.weights == "tiny" else CHECKPOINTS / "public" / point.model
    return WeightsSource(
        config=str(config),
        processor=str(tiny),
        values="stored" if point.weights == "tiny" else "random",
        options={"local_files_only": True},
        digest=_digest_folder(tiny) + ("" if config == tiny else _digest_folder(config)),
    )


def _pretrained(point: Point) -> WeightsSource:
    assert point.checkpoint is not None
    folder = Path(os.path.expanduser(point.checkpoint))
    if os.path.isdir(folder):
        check_folder(folder, point.model)
        options: dict[str, Any] = {"local_files_only": True}
        name, digest = str(folder.absolute()), _digest_folder(folder)
    else:
        _check_hub_name(point.checkpoint)
        options = {} if point.revision is None else {"revision": point.revision}
        name, digest = point.checkpoint, f"{point.checkpoint}@{point.revision}"
    return WeightsSource(
        config=name, processor=name, values="stored", options=options, digest=digest
    )


def _check_hub_name(name: str) -> None:
    owner, slash, model = name.partition("/")
    looks_like_a_path = name.startswith((".", "/", "~")) or "/" in model
    if looks_like_a_path or not (slash and owner and model):
        raise ConfigError(
            "model.checkpoint", name, "no such folder, and not a hub id of the form owner/name"
        )


def check_folder(folder: Path, model: str) -> None:
    """Refuse an incomplete checkpoint folder before anything large is read."""
    check_model_type(_read_json(folder, "config.json"), model, folder)
    _check_shards(folder)
    if not (folder / "tokenizer.json").is_file() and not any(folder.glob("tokenizer*")):
        raise ConfigError("model.checkpoint", folder, "there is no tokenizer.json in it")
    if not any((folder / f"{name}.json").is_file() for name in _PICTURE_SETTINGS):
        raise ConfigError("model.checkpoint", folder, "there is no preprocessor_config.json in it")


def check_model_type(config: Mapping[str, Any], model: str, place: Path | str) -> None:
    """Refuse a checkpoint whose config.json is of another family."""
    expected = _read_json(CHECKPOINTS / "public" / model, "config.json")
    # Some public configurations have the values of their text model at the top level.
    inner = config.get("text_config") or {"model_type": expected["text_config"]["model_type"]}
    for where, has, wants in (
        ("", config, expected),
        ("text_config.", inner, expected["text_config"]),
    ):
        found = has.get("model_type") if isinstance(has, Mapping) else None
        if found != wants["model_type"]:
            raise ConfigError(
                "model.checkpoint",
                place,
                f"config.json has {where}model_type {found}; {model} is {wants['model_type']}",
            )


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_read_json(folder, index.name).get("weight_map", {}).values()))
    else:
        shards = ["model.safetensors"]
    for shard in shards:
        path = folder / shard
        if not path.is_file():
            raise ConfigError("model.checkpoint", folder, f"there is no {shard} in it")
        _check_safetensors(folder, path)


def _check_safetensors(folder: Path, path: Path) -> None:
    """Compare the size with the header: an interrupted download is too short."""
    try:
        header = read_header(path)
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
        whole = 8 + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        raise ConfigError("model.checkpoint", folder, f"{path.name} is not safetensors") from None
    if path.stat().st_size != whole:
        raise ConfigError(
            "model.checkpoint",
            folder,
            f"{path.name} has {path.stat().st_size} bytes and should have {whole}",
        )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("model.checkpoint", folder, f"there is no {name} in it") from None
    except (OSError, ValueError) as error:
        raise ConfigError("model.checkpoint", folder, f"{name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError("model.checkpoint", folder, f"{name} is not an object")
    return content


def _digest_folder(folder: Path) -> str:
    """A digest of a checkpoint: small files in full, of large files both ends and the size."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".json", ".jinja", ".model", ".safetensors", ".txt"}:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as stream:
            if size <= _WHOLE_FILES_UP_TO:
                digest.update(stream.read())
            else:
                digest.update(stream.read(2**20))
                stream.seek(-(2**20), 2)
                digest.update(stream.read())
    return digest.hexdigest()


def describe_weights(point: Point) -> str:
    """One line that says what the weights of a run are."""
    url, name = (point.engine_settings.get(key) for key in ("url", "model"))
    if url is not None:
        return (
            f"the weights are those that the server at {url} calls {name}; model={point.model} and"
            f" weights={point.weights} only say what they are taken for"
        )
    if point.weights == "tiny":
        millions = count_parameters(CHECKPOINTS / "tiny" / point.model) / 1e6
        return (
            f"weights=tiny: a {millions:.1f} M-parameter stand-in for {point.model};"
            " weights=pretrained profiles the public checkpoint"
        )
    if point.weights == "random":
        return (
            f"weights=random: the architecture of {point.model} at full size with random values;"
            " its costs are real, its answers mean nothing"
        )
    revision = f" at revision {point.revision}" if point.revision else ""
    return f"weights=pretrained: {point.checkpoint}{revision}"


def count_parameters(folder: Path) -> int:
    """The number of stored values, read off the headers of a folder's safetensors files."""
    return sum(
        math.prod(item["shape"])
        for path in sorted(folder.glob("*.safetensors"))
        for name, item in read_header(path).items()
        if name != "__metadata__"
    )


def read_header(path: Path) -> dict[str, Any]:
    """The names, dtypes and offsets of the tensors in a safetensors file."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header
