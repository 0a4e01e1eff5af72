"""What a point shows with each question: more pictures than a sample has, or some of its frames."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from profiling.errors import ConfigError, shorten
from profiling.points.point import Point
from profiling.samples.clips import still_clip
from profiling.samples.samples import Sample, load_samples


def load_shown(
    folder: Path,
    *,
    count: int | None,
    at_most: int | None,
    num_pictures: int | None,
    num_frames: int | None,
    seed: int,
) -> list[Sample]:
    """The samples of a folder, each with as many pictures or frames as are asked for.

    None leaves them as they are in the folder.
    """
    samples = load_samples(folder, count=count, at_most=at_most)
    if num_frames is not None:
        if num_pictures is not None and num_pictures > 1:
            allowed = f"allowed is null beside num_pictures={num_pictures}: a clip is one picture"
            raise ConfigError("num_frames", num_frames, allowed)
        return [_take_frames(sample, num_frames) for sample in samples]
    if num_pictures is None:
        return samples
    if all(len(sample.pictures) == num_pictures for sample in samples):
        return samples
    pool = _list_pictures(load_samples(folder, count=None, at_most=None))
    return [_add_pictures(sample, num_pictures, pool, seed) for sample in samples]


def load_point(point: Point, *, count: int | None, at_most: int | None) -> list[Sample]:
    """The samples of a point as it shows them."""
    return load_shown(
        Path(point.dataset_folder),
        count=count,
        at_most=at_most,
        num_pictures=point.num_pictures,
        num_frames=point.num_frames,
        seed=point.seed,
    )


def count_pictures(samples: Sequence[Sample]) -> int | None:
    """How many pictures every sample shows; None where they differ, or show clips."""
    counts = {0 if sample.clip else len(sample.pictures) for sample in samples}
    return counts.pop() or None if len(counts) == 1 else None


def count_frames(samples: Sequence[Sample]) -> int | None:
    """How many frames every sample shows; None where they differ, or show pictures."""
    counts = {sample.num_frames for sample in samples}
    return counts.pop() or None if len(counts) == 1 else None


# Frames


def _take_frames(sample: Sample, count: int) -> Sample:
    if sample.clip is None:
        if len(sample.pictures) > 1:
            allowed = f"sample {shorten(sample.id)} has several pictures, which are no clip"
            raise ConfigError("num_frames", count, allowed)
        return replace(sample, pictures=(), clip=still_clip(sample.picture, count))
    if count > sample.num_frames:
        allowed = f"the clip of sample {shorten(sample.id)} has {sample.num_frames} frames"
        raise ConfigError("num_frames", count, allowed)
    return replace(sample, clip=sample.clip.sample(count))


# Pictures


def _list_pictures(samples: Sequence[Sample]) -> list[Path]:
    """Every picture of a folder once."""
    return list(dict.fromkeys(picture for sample in samples for picture in sample.pictures))


def _add_pictures(sample: Sample, count: int, pool: Sequence[Path], seed: int) -> Sample:
    """The sample with pictures of others around its own; the question says which is meant."""
    own = sample.pictures
    if sample.clip is not None:
        allowed = f"sample {shorten(sample.id)} has a clip and no picture"
        raise ConfigError("num_pictures", count, allowed)
    if count < len(own):
        allowed = f"sample {shorten(sample.id)} asks about its {len(own)} pictures"
        raise ConfigError("num_pictures", count, allowed)
    if count == len(own):
        return sample
    others = _draw(set(own), count - len(own), pool, f"{seed}:{sample.id}", count)
    if len(own) > 1:
        asked = f"pictures 1 to {len(own)}"
        return replace(sample, pictures=(*own, *others), request=_about(asked, count, sample))
    place = random.Random(f"place:{seed}:{count}:{sample.id}").randrange(count)
    return replace(
        sample,
        pictures=(*others[:place], *own, *others[place:]),
        request=_about(f"picture {place + 1}", count, sample),
        asked_picture=place + 1,
    )


def _about(asked: str, count: int, sample: Sample) -> str:
    return f"About {asked} of {count}: {sample.request}"


def _draw(own: set[Path], wanted: int, pool: Sequence[Path], name: str, count: int) -> list[Path]:
    """Different pictures of other samples; fewer of one seed are the first of more."""
    available = len(set(pool) - own)
    if wanted > available:
        allowed = f"the data set has {available} pictures besides those of a sample"
        raise ConfigError("num_pictures", count, allowed)
    chance, drawn = random.Random(name), dict[Path, None]()
    while len(drawn) < wanted:
        picture = pool[chance.randrange(len(pool))]
        if picture not in own:
            drawn[picture] = None
    return list(drawn)
