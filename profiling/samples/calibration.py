"""The calibration split of a dataset: samples to quantize with, by which no run is judged."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiling.errors import ConfigError
from profiling.points.point import CALIBRATION, Point
from profiling.samples.samples import Sample, check_pictures, digest_samples, load_samples

# A folder of the same layout inside a dataset's.
SPLIT = "calibration"


def calibration_samples(point: Point, name: str) -> list[Sample]:
    """The samples that an optimization of the point calibrates with, chosen by its seed."""
    settings = point.optimization_settings[name]
    key, wanted = f"optimization.{name}.{CALIBRATION}", settings[CALIBRATION]
    folder = Path(point.dataset_folder) / SPLIT
    if not folder.is_dir():
        reason = f"{name} calibrates with samples in {SPLIT}/ of this folder, which is not there"
        raise ConfigError("dataset.folder", point.dataset_folder, reason)
    samples = load_samples(folder, count=None, at_most=None)
    if wanted > len(samples):
        raise ConfigError(key, wanted, f"{folder} holds {len(samples)} samples")
    return random.Random(settings["seed"]).sample(samples, wanted)


def digest_calibration(point: Point) -> str | None:
    """A digest of all that optimizations of the point calibrate with; None where none does."""
    digests = [
        _digest(point, name)
        for name, settings in point.optimization_settings.items()
        if _calibrates(settings)
    ]
    return "".join(digests) or None


def _calibrates(settings: Mapping[str, Any]) -> bool:
    return CALIBRATION in settings


def _digest(point: Point, name: str) -> str:
    samples = calibration_samples(point, name)
    check_pictures(Path(point.dataset_folder) / SPLIT, samples)
    return digest_samples(samples)
