"""Samples: pictures or clips with a question and references, read from a folder and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from profiling.errors import ConfigError, shorten
from profiling.files import LARGEST_INDEX, describe, digest_file, read_json
from profiling.points.address import canonical_json
from profiling.samples.clips import LEAST_FPS, MOST_FPS, Clip, find_clip, read_frames
from profiling.samples.pictures import PictureError, read_picture


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Pictures or a clip, a question about them, and the reference answers."""

    id: str
    pictures: tuple[Path, ...]
    request: str
    references: tuple[str, ...]
    clip: Clip | None = None
    # Which of several pictures the question is about, from 1; None where it is about all of them.
    asked_picture: int | None = None

    @property
    def picture(self) -> Path:
        """The picture of a sample that has one."""
        (picture,) = self.pictures
        return picture

    @property
    def num_frames(self) -> int:
        return 0 if self.clip is None else len(self.clip.frames)


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
    seen: set[Path] = set()
    for sample in samples:
        for picture in sample.pictures:
            if picture not in seen:
                with _blamed(folder, sample.id, picture):
                    read_picture(picture)
            seen.add(picture)
        if sample.clip is not None:
            with _blamed(folder, sample.id, sample.clip.paths[0].parent):
                read_frames(sample.clip)


def digest_samples(samples: Sequence[Sample]) -> str:
    """A digest of the samples' content, independent of their location."""
    digest = hashlib.sha256()
    digest_of = cache(digest_file)
    for sample in samples:
        facts: list[Any] = [sample.id, sample.request, list(sample.references)]
        files = sample.pictures
        if sample.clip is not None:
            files = sample.clip.paths
            numbers = {file: number for number, file in enumerate(files)}
            places = [[numbers[frame.path], frame.index] for frame in sample.clip.frames]
            facts += [sample.clip.fps, places]
        elif len(files) > 1:
            facts += [len(files)]
        digest.update(canonical_json(facts).encode())
        for file in files:
            digest.update(bytes.fromhex(digest_of(file)))
    return digest.hexdigest()


def full_batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Full batches only, for comparable costs; too few samples are repeated."""
    if len(samples) < size:
        return [[samples[i % len(samples)] for i in range(size)]]
    return [list(samples[i : i + size]) for i in range(0, len(samples) - size + 1, size)]


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Every sample once, in order; the last batch may be short."""
    return [list(samples[i : i + size]) for i in range(0, len(samples), size)]


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
    clip = _read_clip(folder, root, name, entry)
    return Sample(
        id=name,
        pictures=() if clip else _read_pictures(folder, root, name, entry.get("image_path")),
        clip=clip,
        request=request,
        references=_references(folder, name, entry.get("response")),
    )


def _read_pictures(folder: Path, root: Path, name: str, written: Any) -> tuple[Path, ...]:
    listed = written if isinstance(written, list) else [written]
    if not listed:
        raise _broken(folder, name, "image_path is []; allowed is at least one path in the folder")
    paths = [_find_path(folder, root, name, "image_path", one) for one in listed]
    for path in paths:
        if not os.path.isfile(path):
            raise _broken(folder, name, f"{path}: there is no such regular file")
    return tuple(paths)


def _read_clip(folder: Path, root: Path, name: str, entry: dict[str, Any]) -> Clip | None:
    if entry.get("video_path") is None:
        return None
    if entry.get("image_path") is not None:
        raise _broken(folder, name, "it has an image_path and a video_path; allowed is one of them")
    path = _find_path(folder, root, name, "video_path", entry["video_path"])
    if not os.path.exists(path):
        raise _broken(folder, name, f"{path}: there is no such folder or file")
    fps = entry.get("fps")
    if fps is not None and not _is_rate(fps):
        raise _broken(
            folder, name, f"fps is {fps!r:.60}; allowed is a number from {LEAST_FPS} to {MOST_FPS}"
        )
    with _blamed(folder, name, path):
        clip = find_clip(path, fps)
    for frame in clip.paths:
        _find_path(folder, root, name, "video_path", str(frame.relative_to(folder)))
    return clip


def _is_rate(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and LEAST_FPS <= value <= MOST_FPS


def _find_path(folder: Path, root: Path, name: str, key: str, written: Any) -> Path:
    if not _is_text(written) or "\0" in written:
        raise _broken(folder, name, f"{key} is {written!r:.60}; allowed is a path in the folder")
    path = folder / written
    inside = Path(os.path.realpath(path)).is_relative_to(root)
    if Path(written).is_absolute() or not inside:
        raise _broken(folder, name, f"{key} {written} leaves the folder")
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


@contextmanager
def _blamed(folder: Path, name: str, path: Path) -> Iterator[None]:
    """What is wrong with a picture, said of the sample that has it."""
    try:
        yield
    except PictureError as error:
        raise _broken(folder, name, f"{path}: {error}") from None
    except OSError as error:
        raise _broken(folder, name, f"{path}: {describe(error)}") from None
