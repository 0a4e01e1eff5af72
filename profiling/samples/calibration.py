"""The calibration split of a dataset: samples to quantize with, by which no run is judged."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiling.errors import Unsupported
from profiling.points.point import CALIBRATION, Point
from profiling.samples.samples import Sample, check_pictures, digest_samples, load_samples

# A folder of the same layout inside a dataset's.
SPLIT = "calibration"


def calibration_samples(point: Point, name: str) -> list[Sample]:
    """The samples that an optimization of the point calibrates with, chosen by its seed.

    As many as its setting says, or all where the split holds fewer.
    """
    settings = point.optimization_settings[name]
    folder = Path(point.dataset_folder) / SPLIT
    if not os.path.isdir(folder):
        raise Unsupported(
            f"{name} calibrates with samples in {folder}, and there is no such folder"
        )
    samples = load_samples(folder, count=None, at_most=None)
    return random.Random(settings["seed"]).sample(samples, min(settings[CALIBRATION], len(samples)))


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
    try:
        samples = calibration_samples(point, name)
    except Unsupported:
        # The engine says so; there is nothing that an address could depend on.
        return ""
    check_pictures(Path(point.dataset_folder) / SPLIT, samples)
    return digest_samples(samples)
