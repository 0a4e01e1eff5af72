"""`run`, `measure_pair` and `predict`: what is refused before anything runs, and real points."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import profiling
from profiling.api import measuring
from profiling.runs.job import Outcome
from profiling.runs.session import Plan


@pytest.mark.parametrize(
    ("typed", "keys", "named"),
    [
        ((), {"img_size": 0}, "img_size=0"),
        ((), {"model": "lava"}, "model=lava"),
        ((), {"imgsize": 112}, "img_size"),
        ((), {"batch_size": []}, "batch_size"),
        ((), {"experiment": "image_size"}, "experiment=image_size"),
        ((), {"dry": True}, "dry=true"),
        (("--help",), {}, "--help"),
        (("img_size",), {}, "img_size"),
        (("img_size=1,",), {}, "img_size=1,"),
        ((), {"img_size": [112, -1]}, "img_size=-1"),
        ((), {"dataset.folder": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_a_wrong_key_is_refused_before_anything_runs(
    typed: tuple[str, ...],
    keys: dict[str, Any],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as mistake:
        profiling.run(*typed, **keys)
    assert named in str(mistake.value) and "\n" not in str(mistake.value)
    assert not list(tmp_path.rglob("run.json"))


def test_lists_are_every_combination_once(tmp_path: Path) -> None:
    typed = ["img_size=112,112,224", f"results_dir={tmp_path}", "optimization=baseline,[bf16]"]
    plans = measuring.plan_points(typed)
    points = {(plan.point.img_size, *plan.point.optimization) for plan in plans}
    assert points == {(size, name) for size in (112, 224) for name in ("baseline", "bf16")}
    assert len(plans) == 4


def test_files_that_changed_since_the_last_call_are_read_again(tmp_path: Path) -> None:
    """A notebook's process goes on while its user corrects the samples."""
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    typed = [f"dataset.folder={tmp_path}", f"results_dir={tmp_path / 'results'}"]
    asked = []
    for request in ("what is it?", "what is there?"):
        sample = {"image_path": "one.png", "request": request, "response": "a square"}
        (tmp_path / "samples.json").write_text(json.dumps([sample]), encoding="utf-8")
        asked += measuring.plan_points(typed)
    assert [plan.samples[0].request for plan in asked] == ["what is it?", "what is there?"]
    assert asked[0].fingerprint != asked[1].fingerprint


def test_a_point_without_a_record_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(plans: list[Plan], stream: object) -> dict[str, Outcome]:
        lost = Outcome(status="failed", error="the disk is full", loaded=False, summary={})
        return {plan.fingerprint: lost for plan in plans}

    monkeypatch.setattr(measuring, "run_plans", lose)
    with pytest.raises(RuntimeError, match="the disk is full"):
        profiling.run(results_dir=tmp_path)


@pytest.mark.parametrize(
    ("sides", "keys", "named"),
    [
        (("max_new_tokens=5", "max_new_tokens=6"), {"launches": 0}, "launches=0"),
        (("max_new_tokens=5", "max_new_tokens=x"), {}, "max_new_tokens=x"),
        (("max_new_tokens=5,6", "seed=1"), {}, "max_new_tokens=5,6"),
        (("seed='", "seed=1"), {}, "seed='"),
    ],
)
def test_a_wrong_pair_is_refused(
    sides: tuple[str, str], keys: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as mistake:
        profiling.measure_pair(*sides, results_dir=tmp_path, **keys)
    assert named in str(mistake.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "named"), [({"gpu": "h1000"}, "h1000"), ({"convention": "x"}, "convention=x")]
)
def test_a_wrong_prediction_is_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        profiling.predict(model="llava", **keys)


@pytest.mark.slow
def test_points_are_measured_read_back_and_kept(tmp_path: Path) -> None:
    settings = {"profiler": "quick", "num_samples": 2, "max_new_tokens": 4}
    settings["results_dir"] = tmp_path / "of mine"
    stream = io.StringIO()
    first = profiling.run(stream=stream, img_size=[112, 168], **settings)
    assert list(first.table["img_size"]) == [112, 168]
    assert (first.table["status"] == "completed").all() and "[2/2]" in stream.getvalue()
    alone = profiling.run(stream=stream, img_size=168, **settings)
    assert len(alone) == 1 and "kept" in stream.getvalue()
    assert alone.table["fingerprint"][0] == first.table["fingerprint"][1]
    assert len(profiling.load(settings["results_dir"])) == 2


@pytest.mark.slow
def test_a_pair_is_measured_in_turn(tmp_path: Path) -> None:
    stream = io.StringIO()
    settings = {"profiler": "quick", "num_samples": 2, "img_size": 112, "results_dir": tmp_path}
    sides = ("max_new_tokens=4", "max_new_tokens=16")
    pair = profiling.measure_pair(*sides, launches=3, stream=stream, **settings)
    assert pair.source == "paired" and pair.ratio < 1 and pair.ci_high is not None
    assert {"total", "decode", "prefill"} <= set(pair.table.index)
    assert profiling.measure_pair(*sides, launches=3, stream=stream, **settings).ratio == pair.ratio
    assert "kept" in stream.getvalue()


@pytest.mark.slow
def test_costs_are_predicted_for_every_combination() -> None:
    counted = profiling.predict(model="qwen25vl", img_size=[224, 448], max_new_tokens=1)
    assert list(counted["img_size"]) == [224, 448] and counted["total"].is_monotonic_increasing
    times = profiling.predict(model="qwen25vl", img_size=224, gpu=["h100", "l4"])
    assert list(times["device"]) and times["least_s"].is_monotonic_increasing
