"""The command that writes datasets, and the ones that are shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiling.samples.samples import check_pictures, load_samples
from tests.marking import slow_except
from training.draw import DATASETS, draw_scenes, write_dataset

SHIPPED = Path(__file__).parents[2] / "datasets"


@pytest.mark.parametrize("dataset", DATASETS)
def test_shipped_samples_load(dataset):
    samples = load_samples(SHIPPED / dataset, count=None, at_most=None)
    check_pictures(SHIPPED / dataset, samples)
    assert len(samples) >= 100


@pytest.mark.parametrize("dataset", slow_except(DATASETS, "scienceqa"))
def test_shipped_samples_are_what_the_committed_seed_draws(dataset, tmp_path):
    entries = json.loads((SHIPPED / dataset / "samples.json").read_text(encoding="utf-8"))
    write_dataset(tmp_path, draw_scenes(DATASETS[dataset], seed=2026, count=len(entries)))
    drawn = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    assert drawn == entries


@pytest.mark.parametrize("dataset", slow_except(DATASETS, "textvqa"))
def test_the_shipped_calibration_split_is_what_its_seed_draws(dataset, tmp_path):
    shipped = SHIPPED / dataset / "calibration"
    entries = json.loads((shipped / "samples.json").read_text(encoding="utf-8"))
    scenes = draw_scenes(DATASETS[dataset], seed=2027, count=len(entries), held_out=False)
    write_dataset(tmp_path, scenes)
    assert json.loads((tmp_path / "samples.json").read_text(encoding="utf-8")) == entries


def test_shipped_pictures_are_small_and_not_all_square():
    pictures = list(SHIPPED.rglob("*.png"))
    assert sum(path.stat().st_size for path in pictures) < 6e6


def test_datasets_folder_does_not_shadow_the_package():
    assert not list(SHIPPED.rglob("__init__.py"))
