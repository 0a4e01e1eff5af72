"""Samples: pictures with a question and references, read from a folder and checked."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy
from PIL import Image, ImageOps, UnidentifiedImageError

from profiling.errors import ConfigError, shorten
from profiling.files import (
    LARGEST_INDEX,
    LARGEST_PICTURE,
    PICTURE_FORMATS,
    UnfitFile,
    describe,
    digest_file,
    open_file,
    read_json,
)
from profiling.points.address import canonical_json


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture, a question about it, and the reference answers."""

    id: str
    picture: Path
    request: str
    references: tuple[str, ...]


class PictureError(ValueError):
    """A file that is not a complete picture."""


def load_samples(folder: Path, *, count: int | None, at_most: int | None) -> list[Sample]:
    """The first samples of a folder: exactly `count`, or all up to `at_most`."""
    entries = _read_index(folder)
    if count is not None and count > len(entries):
        raise ConfigError("num_samples", count, f"{folder} holds {len(entries)} samples")
    wanted = count if count is not None else min(len(entries), at_most or len(entries))
    root = folder.resolve()
    samples = [_read_entry(folder, root, i, entry) for i, entry in enumerate(entries[:wanted])]
    _refuse_twins(folder, samples)
    return samples


def check_pictures(folder: Path, samples: Sequence[Sample]) -> None:
    """Decode every picture once, so that a broken one is found before a model is loaded."""
    for sample in samples:
        try:
            read_picture(sample.picture)
        except PictureError as error:
            raise _broken(folder, sample.id, f"{sample.picture}: {error}") from None


def digest_samples(samples: Sequence[Sample]) -> str:
    """A digest of the samples' content, independent of their location."""
    digest = hashlib.sha256()
    for sample in samples:
        facts = [sample.id, sample.request, list(sample.references)]
        digest.update(canonical_json(facts).encode())
        digest.update(bytes.fromhex(digest_file(sample.picture)))
    return digest.hexdigest()


def full_batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Full batches only, for comparable costs; too few samples are repeated."""
    if len(samples) < size:
        return [[samples[i % len(samples)] for i in range(size)]]
    return [list(samples[i : i + size]) for i in range(0, len(samples) - size + 1, size)]


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Every sample once, in order; the last batch may be short."""
    return [list(samples[i : i + size]) for i in range(0, len(samples), size)]


def read_picture(path: Path) -> Image.Image:
    """A picture as displayed: upright, opaque, 8-bit RGB."""
    try:
        with warnings.catch_warnings():
            # Other warnings of Pillow are followed by an error or do not change the pixels.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_file(path, at_most=LARGEST_PICTURE) as stream:
                with Image.open(stream, formats=PICTURE_FORMATS) as check:
                    check.verify()
                stream.seek(0)
                with Image.open(stream, formats=PICTURE_FORMATS) as picture:
                    picture.load()
                    return _as_rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except UnfitFile as error:
        raise PictureError(describe(error)) from None
    except UnidentifiedImageError:
        allowed = ", ".join(PICTURE_FORMATS)
        raise PictureError(f"not a complete picture in one of the formats {allowed}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise PictureError(f"not a complete picture: {' '.join(str(error).split())}") from None


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        return _from_sixteen_bits(picture).convert("RGB")
    if picture.mode == "F":
        raise PictureError("floating-point pixels have no agreed white")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        page = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(page, seen).convert("RGB")
    return picture.convert("RGB")


def _from_sixteen_bits(picture: Image.Image) -> Image.Image:
    # 257 maps 65535 to 255 exactly; the high byte alone would darken by up to one step.
    levels = numpy.asarray(picture).astype(numpy.float64) / 257
    return Image.fromarray(numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8), mode="L")


def _read_index(folder: Path) -> list[Any]:
    path = folder / "samples.json"
    if not os.path.isdir(folder):
        raise ConfigError("dataset.folder", folder, "there is no such folder")
    try:
        entries = read_json(path, at_most=LARGEST_INDEX)
    except FileNotFoundError:
        raise ConfigError("dataset.folder", folder, "there is no samples.json in it") from None
    except (OSError, ValueError) as error:
        reason = f"{shorten(path)} cannot be read: {describe(error)}"
        raise ConfigError("dataset.folder", folder, reason) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError("dataset.folder", folder, f"{path} is not a list of samples")
    return entries


def _read_entry(folder: Path, root: Path, position: int, entry: Any) -> Sample:
    name = str(position)
    if not isinstance(entry, dict):
        raise _broken(folder, name, "not an object")
    if isinstance(entry.get("id"), (str, int)) and _is_text(str(entry["id"])):
        name = str(entry["id"])
    request = entry.get("request")
    if not _is_text(request) or not request.strip():
        raise _broken(
            folder, name, f"request is {request!r:.60}; allowed is a text that is not empty"
        )
    return Sample(
        id=name,
        picture=_picture_path(folder, root, name, entry.get("image_path")),
        request=request,
        references=_references(folder, name, entry.get("response")),
    )


def _picture_path(folder: Path, root: Path, name: str, written: Any) -> Path:
    if not _is_text(written) or "\0" in written:
        raise _broken(
            folder, name, f"image_path is {written!r:.60}; allowed is a path in the folder"
        )
    path = folder / written
    inside = Path(os.path.realpath(path)).is_relative_to(root)
    if Path(written).is_absolute() or not inside:
        raise _broken(folder, name, f"image_path {written} leaves the folder")
    if not os.path.isfile(path):
        raise _broken(folder, name, f"{path}: there is no such regular file")
    return path


def _references(folder: Path, name: str, response: Any) -> tuple[str, ...]:
    listed = [response] if isinstance(response, str) else response
    if not isinstance(listed, list) or not listed or not all(_is_reference(r) for r in listed):
        raise _broken(
            folder, name, f"response is {response!r:.60}; allowed is a text or a list of texts"
        )
    return tuple(listed)


def _is_reference(value: Any) -> bool:
    return value == "" or _is_text(value)


def _is_text(value: Any) -> TypeGuard[str]:
    """A text without lone surrogates, which JSON allows and no file can hold."""
    if not isinstance(value, str) or not value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _refuse_twins(folder: Path, samples: Sequence[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise _broken(folder, sample.id, "another sample has the same id")
        seen.add(sample.id)


def _broken(folder: Path, name: str, what: str) -> ConfigError:
    return ConfigError("dataset.folder", folder, f"samples.json, sample {name}: {what}")
