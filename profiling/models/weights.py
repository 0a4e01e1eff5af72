"""The source of a point's weights: a folder or a hub repository, and what is in it."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiling import PROJECT
from profiling.errors import ConfigError, shorten
from profiling.files import (
    LARGEST_INDEX,
    LARGEST_SETTINGS,
    describe,
    digest_file,
    open_file,
    parse_json,
    read_json,
    require_file,
)
from profiling.machine.digests import digest_large
from profiling.machine.hub_cache import find_damage
from profiling.models.stored_quantization import Headers, StoredFormat, read_format
from profiling.points.point import Point

CHECKPOINTS = PROJECT / "checkpoints"
# A configuration of about 200 million parameters in the language model, for each family.
MID = "mid"
INDEX = "model.safetensors.index.json"
# What the library may read of a folder. It takes templates from a folder of their own, too.
_READ = frozenset({".json", ".jinja", ".model", ".safetensors", ".txt"})
_TEMPLATES = "additional_chat_templates"
# The safetensors format allows no longer header.
_LARGEST_HEADER = 100_000_000
# Names that the library resolves by itself; anything else it looks up on the hub as code.
_ATTENTION = frozenset(
    {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4"}
    | {"flex_attention", "paged|eager", "paged|sdpa", "paged|flash_attention_2"}
)
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
    """The source of a point's weights, checked before anything is loaded."""
    if point.weights == "pretrained":
        return _pretrained(point)
    if not has_architecture(point.model):
        return _random_own(point)
    tiny = CHECKPOINTS / "tiny" / point.model
    check_folder(tiny, point.model)
    if point.checkpoint is not None:
        return _random_like(point, point.checkpoint, tiny)
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
    if not os.path.isdir(folder):
        return _from_hub(point, point.checkpoint, "stored")
    check_folder(folder, point.model)
    return _from_folder(folder, "stored", _digest_folder(folder))


def has_architecture(model: str) -> bool:
    """Whether a model is of one architecture, whose public configuration the project ships."""
    return (CHECKPOINTS / "public" / model).is_dir()


def _random_own(point: Point) -> WeightsSource:
    """Random values in the architecture of a checkpoint, with the checkpoint's own processor."""
    assert point.checkpoint is not None
    folder = Path(os.path.expanduser(point.checkpoint))
    if not os.path.isdir(folder):
        return _from_hub(point, point.checkpoint, "random")
    _check_config(folder, point.model)
    _check_processor(folder)
    return _from_folder(folder, "random", _digest_settings(folder))


def _check_cached(name: str, revision: str | None) -> None:
    """Refuse files in the hub's cache that were damaged after their download."""
    damaged = find_damage(name, revision)
    if damaged is not None:
        raise ConfigError(
            "model.checkpoint",
            name,
            f"{damaged} in the hub's cache has other bytes than its name says; delete that file,"
            " and it is downloaded again",
        )


def _random_like(point: Point, checkpoint: str, tiny: Path) -> WeightsSource:
    """Random values in the architecture of a checkpoint, of which config.json alone is read."""
    is_mid = checkpoint == MID
    folder = CHECKPOINTS / MID / point.model if is_mid else Path(os.path.expanduser(checkpoint))
    if os.path.isdir(folder):
        check_model_type(_read_json(folder, "config.json"), point.model, folder)
        found = _from_folder(folder, "random", digest_file(folder / "config.json"))
    else:
        found = _from_hub(point, checkpoint, "random")
    return replace(found, processor=str(tiny), digest=_digest_folder(tiny) + found.digest)


def _from_folder(folder: Path, values: str, digest: str) -> WeightsSource:
    name = str(folder.absolute())
    options = {"local_files_only": True}
    return WeightsSource(config=name, processor=name, values=values, options=options, digest=digest)


def _from_hub(point: Point, name: str, values: str) -> WeightsSource:
    _check_hub_name(name)
    _check_cached(name, point.revision)
    return WeightsSource(
        config=name,
        processor=name,
        values=values,
        options={} if point.revision is None else {"revision": point.revision},
        digest=f"{name}@{point.revision}",
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
    _check_config(folder, model)
    _check_shards(folder)
    _check_quantized(folder)
    _check_processor(folder)


def _check_quantized(folder: Path) -> None:
    """Refuse quantized layers in a format that is not read, or whose tensors do not fit."""
    stored = read_format(_read_json(folder, "config.json"), folder)
    if stored is not None:
        shards = list_shards(folder)
        headers = {str(shard.relative_to(folder)): read_header(shard) for shard in shards}
        Headers.of(headers, folder).check(stored)


def stored_format(point: Point) -> StoredFormat | None:
    """How the weights of a point's folder are quantized; None where they are not, or not known."""
    if point.weights != "pretrained" or point.checkpoint is None:
        return None
    folder = Path(os.path.expanduser(point.checkpoint))
    if not os.path.isdir(folder):
        return None
    return read_format(_read_json(folder, "config.json"), folder)


def _check_config(folder: Path, model: str) -> None:
    _check_kinds(folder)
    check_model_type(_read_json(folder, "config.json"), model, folder)


def _check_processor(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file() and not any(folder.glob("tokenizer*")):
        raise ConfigError("model.checkpoint", folder, "there is no tokenizer.json in it")
    if not any((folder / f"{name}.json").is_file() for name in _PICTURE_SETTINGS):
        raise ConfigError("model.checkpoint", folder, "there is no preprocessor_config.json in it")


def check_model_type(config: Mapping[str, Any], model: str, place: Path | str) -> None:
    """Refuse a checkpoint whose config.json is of another family."""
    _refuse_code(config, place)
    if not has_architecture(model):
        return
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


def _check_kinds(folder: Path) -> None:
    """Refuse a FIFO, a device or a folder in the place of a file that the library may open."""
    for path in _list_read(folder):
        largest = None if path.suffix == ".safetensors" else LARGEST_INDEX
        try:
            require_file(path, at_most=largest)
        except OSError as error:
            reason = f"{path.name} cannot be read: {describe(error)}"
            raise ConfigError("model.checkpoint", folder, reason) from None


def _list_read(folder: Path) -> list[Path]:
    found = [*folder.iterdir(), *(folder / _TEMPLATES).glob("*")]
    return sorted(path for path in found if path.suffix in _READ)


def _refuse_code(config: Any, place: Path | str) -> None:
    """Refuse a configuration that has the library fetch a kernel, which is code, from the hub."""
    for key, value in _settings_in(config):
        if not key.strip("_").startswith("attn_implementation"):
            continue
        # A mapping has one for each part.
        chosen = value.values() if isinstance(value, Mapping) else [value]
        for one in chosen:
            if isinstance(one, str) and one not in _ATTENTION:
                allowed = f"config.json has {key} {one!r:.60}; allowed are the library's own"
                raise ConfigError("model.checkpoint", place, allowed)


def _settings_in(config: Any) -> Iterator[tuple[str, Any]]:
    """The settings of a configuration and of all configurations in it."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from ((str(key), value) for key, value in one.items())
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_shards(folder: Path) -> None:
    for shard in list_shards(folder):
        # Path.is_file raises an error for a name that is too long.
        if not os.path.isfile(shard):
            reason = f"there is no {shorten(shard.relative_to(folder))} in it"
            raise ConfigError("model.checkpoint", folder, reason)
        _check_safetensors(folder, shard)


def list_shards(folder: Path, *, beside: bool = False) -> list[Path]:
    """The safetensors files of a checkpoint folder, as its index has them; none is outside it.

    With `beside` they may lie in the folder around it, as those of a part of a model do.
    """
    if not (folder / INDEX).is_file():
        return [folder / "model.safetensors"]
    names = _read_json(folder, INDEX, at_most=LARGEST_INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ConfigError("model.checkpoint", folder, f"{INDEX} has no weight_map of files")
    home = folder.parent if beside else folder
    wrong = [name for name in names.values() if not _is_inside(folder, name, home)]
    if wrong:
        reason = f"{INDEX} has {wrong[0]!r:.60} as a file; allowed is a name inside the folder"
        raise ConfigError("model.checkpoint", folder, reason)
    return [folder / name for name in sorted(set(names.values()))]


def _is_inside(folder: Path, name: object, home: Path) -> bool:
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    # By the name alone: the files of a hub's cache are links that lead elsewhere.
    return Path(os.path.normpath(folder / name)).is_relative_to(os.path.normpath(home))


def _check_safetensors(folder: Path, path: Path) -> None:
    """Compare the size with the header: an interrupted download is too short."""
    try:
        header = read_header(path)
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        with open_file(path, at_most=None) as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
        whole = 8 + length + max(ends, default=0)
    except (struct.error, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ConfigError("model.checkpoint", folder, f"{path.name} is not safetensors") from None
    if path.stat().st_size != whole:
        raise ConfigError(
            "model.checkpoint",
            folder,
            f"{path.name} has {path.stat().st_size} bytes and should have {whole}",
        )


def _read_json(folder: Path, name: str, at_most: int = LARGEST_SETTINGS) -> dict[str, Any]:
    try:
        content = read_json(folder / name, at_most=at_most)
    except FileNotFoundError:
        raise ConfigError("model.checkpoint", folder, f"there is no {name} in it") from None
    except (OSError, ValueError) as error:
        reason = f"{name} cannot be read: {describe(error)}"
        raise ConfigError("model.checkpoint", folder, reason) from None
    if not isinstance(content, dict):
        raise ConfigError("model.checkpoint", folder, f"{name} is not an object")
    return content


def _digest_folder(folder: Path) -> str:
    """A digest of every byte of a checkpoint that the library may read."""
    outside = [path for path in list_shards(folder) if path.parent != folder]
    return _digest_files(folder, [*_list_read(folder), *outside])


def _digest_settings(folder: Path) -> str:
    """The same without the weights, where none of them are read."""
    settings = [path for path in _list_read(folder) if path.suffix != ".safetensors"]
    return _digest_files(folder, settings)


def _digest_files(folder: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{digest_large(path)}\0".encode())
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
        named = f"{point.model} at mid size" if point.checkpoint == MID else point.checkpoint
        shape = f"{point.model} at full size" if named is None else named
        return (
            f"weights=random: the architecture of {shape} with random values;"
            " its costs are real, its answers mean nothing"
        )
    revision = f" at revision {point.revision}" if point.revision else ""
    stored = stored_format(point)
    how = "" if stored is None else f", {stored.describe()}"
    return f"weights=pretrained: {point.checkpoint}{revision}{how}"


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
    with open_file(path, at_most=None) as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header
