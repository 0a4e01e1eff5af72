"""Clips: frames in order, from a folder of pictures or from an animated file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from profiling.samples.pictures import PictureError, as_displayed, open_picture, read_picture

# What Qwen's processors sample videos at, taken where neither the sample nor the file says it.
DEFAULT_FPS = 2.0
# Outside of these, positions in time have no use or no value.
LEAST_FPS, MOST_FPS = 0.001, 1000
# Beyond what any model can be shown, so that a slip is refused before frames are decoded.
MOST_FRAMES = 10_000
ANIMATED = ("GIF", "WEBP", "PNG")
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A picture file, or one frame of an animated file."""

    path: Path
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames in the order of time, and how many of them make a second."""

    frames: tuple[Frame, ...]
    fps: float

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, each once, in the order in which they are needed."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    def sample(self, count: int) -> Clip:
        """So many of the frames, evenly spread from the first one on."""
        total = len(self.frames)
        frames = tuple(self.frames[place * total // count] for place in range(count))
        return replace(self, frames=frames, fps=self.fps * count / total)


def still_clip(picture: Path, count: int) -> Clip:
    """A picture that does not change for so many frames."""
    return Clip(frames=(Frame(path=picture),) * count, fps=DEFAULT_FPS)


def find_clip(path: Path, fps: float | None) -> Clip:
    """The clip of a folder or of an animated file; raises `PictureError` where it is none."""
    return _from_folder(path, fps) if os.path.isdir(path) else _from_file(path, fps)


def read_frames(clip: Clip) -> list[Image.Image]:
    """The frames as they are displayed, all of one size."""
    wanted: dict[Path, set[int]] = {}
    for frame in clip.frames:
        wanted.setdefault(frame.path, set()).add(frame.index)
    by_path = {}
    for path, indices in wanted.items():
        try:
            by_path[path] = _read_file(path, sorted(indices))
        except PictureError as error:
            raise PictureError(f"{path.name}: {error}") from None
    frames = [by_path[frame.path][frame.index] for frame in clip.frames]
    for frame, picture in zip(clip.frames, frames, strict=True):
        if picture.size != frames[0].size:
            one, first = ("{}x{}".format(*found.size) for found in (picture, frames[0]))
            raise PictureError(f"{frame.path.name} is {one} pixels, and the first frame is {first}")
    return frames


def _read_file(path: Path, wanted: Sequence[int]) -> dict[int, Image.Image]:
    if wanted == [0]:
        return {0: read_picture(path)}
    read: dict[int, Image.Image] = {}
    with open_picture(path, formats=ANIMATED) as picture:
        for index in wanted:
            picture.seek(index)
            read[index] = as_displayed(picture.copy())
    return read


def _from_folder(folder: Path, fps: float | None) -> Clip:
    names = [name for name in os.listdir(folder) if Path(name).suffix.lower() in _SUFFIXES]
    names = sorted((name for name in names if not name.startswith(".")), key=_by_number)
    _check_count(len(names))
    frames = tuple(Frame(path=folder / name) for name in names)
    return Clip(frames=frames, fps=DEFAULT_FPS if fps is None else fps)


def _by_number(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Names in order, with the numbers in them by their value: `9.png` before `10.png`."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts], name


def _from_file(path: Path, fps: float | None) -> Clip:
    with open_picture(path, formats=ANIMATED) as picture:
        count = int(getattr(picture, "n_frames", 1))
        _check_count(count)
        fps = fps or _fps_of(picture, count)
    frames = tuple(Frame(path=path, index=index) for index in range(count))
    return Clip(frames=frames, fps=fps)


def _fps_of(picture: Image.Image, count: int) -> float:
    """By how long the file shows its frames, on average."""
    shown_ms = 0.0
    for index in range(count):
        picture.seek(index)
        # Decoding is what finds the duration in some formats.
        picture.load()
        shown_ms += float(picture.info.get("duration") or 0)
    return 1000 * count / shown_ms if shown_ms > 0 and math.isfinite(shown_ms) else DEFAULT_FPS


def _check_count(count: int) -> None:
    if count == 0:
        raise PictureError("there are no frames in it")
    if count == 1:
        raise PictureError("it has one frame; a clip has at least 2, and image_path shows one")
    if count > MOST_FRAMES:
        raise PictureError(f"it has {count} frames; allowed are at most {MOST_FRAMES}")
