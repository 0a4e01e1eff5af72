"""How long points will take: the median of completed records, of those most like them first."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from profiling.points.point import Point
from profiling.records import COMPLETED, FAILED, write_record
from profiling.runs.forecast import Forecast
from tests.composing import compose_point

BEGUN = datetime(2026, 1, 1)


def remember(results: Path, point: Point, *took_s: float, status: str = COMPLETED) -> None:
    for number, seconds in enumerate(took_s):
        name = f"{len(list(results.glob('*')))}-{number}"
        run: dict[str, Any] = {
            "fingerprint": name,
            "status": status,
            "error": None,
            "config": point.as_config(),
            "machine": {},
            "summary": point.as_columns(),
            "started_at": BEGUN.isoformat(),
            "finished_at": (BEGUN + timedelta(seconds=seconds)).isoformat(),
        }
        write_record(results / name, run=run, readings=[], answers=[])


def test_what_is_most_like_a_point_tells_its_time(tmp_path: Path) -> None:
    remember(tmp_path, compose_point(), 10, 30, 11)
    remember(tmp_path, compose_point("optimization=bf16"), 20)
    remember(tmp_path, compose_point("model=llava"), 90)
    remember(tmp_path, compose_point(), 5, status=FAILED)
    forecast = Forecast([tmp_path])
    assert forecast.expect_s(compose_point("img_size=224", "batch_size=4")) == 11
    assert forecast.expect_s(compose_point("optimization=bf16")) == 20
    assert forecast.expect_s(compose_point("optimization=fp16")) == pytest.approx(15.5)
    assert forecast.expect_s(compose_point("model=fuyu")) == 20
    assert forecast.expect_s(compose_point("weights=random")) is None
    assert forecast.expect_s(compose_point("profiler=quick")) is None


def test_the_engine_counts_before_the_model(tmp_path: Path) -> None:
    point = compose_point()
    remember(tmp_path, point, 10)
    other = {**point.engine_settings, "name": "other"}
    forecast = Forecast([tmp_path])
    assert forecast.expect_s(point) == 10
    assert forecast.expect_s(Point(**{**vars(point), "engine_settings": other})) is None


def test_unknown_times_are_taken_for_the_median_of_known_ones(tmp_path: Path) -> None:
    remember(tmp_path, compose_point(), 10)
    points = [compose_point(), compose_point("weights=random"), compose_point("seed=2")]
    assert Forecast([tmp_path]).expect_all_s(points) == 30
    assert Forecast([]).expect_all_s(points) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"summary": {}},
        {"config": {"profiler": "full"}},
        {"config": {"profiler": {"name": ["full"]}}},
        {"config": {}},
        {"finished_at": "2026-01-01T00:00:10+00:00"},
        {"started_at": None},
    ],
    ids=str,
)
def test_a_record_that_does_not_say_what_was_run_is_passed_over(
    damage: dict[str, Any], tmp_path: Path
) -> None:
    remember(tmp_path, compose_point(), 10)
    (folder,) = tmp_path.iterdir()
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(run | damage), encoding="utf-8")
    assert Forecast([tmp_path]).expect_s(compose_point()) is None
