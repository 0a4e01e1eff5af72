"""How long a point takes at least: by hand for counted costs, and why it may not be known."""

from __future__ import annotations

import io
import json
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.runs import estimate as module
from profiling.runs.estimate import estimate, main
from profiling.samples.hub import HubError
from tests.composing import compose_point
from tests.tiny_models import load

FLOPS = {"vision": 2e9, "prefill": None, "decode": 1e6}
MOVED = {"vision": 1e7, "prefill": None, "decode": 3e8}
RATES = (1e9, 1e8)
# Vision takes 2 s to compute and 0.1 s to move, decode 3 s to move; nothing is known of prefill.
FIRST_S = 2.0
BATCH_S = FIRST_S + 3.0


class Counted:
    """An engine whose costs are made up."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem, self.asked = problem, 0

    def check(self, point: Point) -> None:
        if self.problem is not None:
            raise self.problem

    def count(self, point: Point) -> Any:
        self.asked += 1
        phases = SimpleNamespace(flops=FLOPS.__getitem__, moved_bytes=MOVED)
        return SimpleNamespace(
            dtype="float32", phases=phases, weight_bytes=100, dense_bytes=400, full_cache_bytes=20
        )


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_rough_rates", lambda *_, **__: RATES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def use(monkeypatch: pytest.MonkeyPatch, engine: Counted) -> Counted:
    monkeypatch.setattr(module, "find_engine", lambda point: engine)
    return engine


@pytest.mark.parametrize(
    ("overrides", "answers", "timed_s"),
    [
        # 3 batches; a pass of 5 s outlasts 2 s: one to warm up, and one for memory.
        (("num_samples=5", "batch_size=2", "profiler.repeats=4"), 6, (1 + 4 + 1) * BATCH_S),
        # No quality with random values, and two repeats show how far slow passes differ.
        (("num_samples=9", "weights=random"), 0, (1 + 2 + 1) * BATCH_S),
        # Three passes settle, six are repeated whatever the number of batches, 8 are for memory.
        (
            ("num_samples=9", "weights=random", "profiler.time_budget_s=1000"),
            0,
            (3 + 6 + 8) * BATCH_S,
        ),
        # Slower passes than these may spend the budget with fewer.
        (("num_samples=9", "weights=random", "profiler.time_budget_s=6"), 0, 6 + 2 * 6 + 6),
    ],
)
def test_the_least_time_by_hand(
    overrides: tuple[str, ...], answers: int, timed_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Counted())
    assert estimate(compose_point("profiler=quick", *overrides)) == {
        "at_least_s": pytest.approx(answers * FIRST_S + timed_s),
        "needed_bytes": 120,
        "weight_bytes": 400,
    }


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (HubError("owner/name is not there"), "not counted: its config.json is not on this"),
        (Unsupported("it needs a GPU"), "it needs a GPU"),
        (RuntimeError("one\n  two " + "x" * 300), "not counted: one two xxx"),
    ],
)
def test_what_cannot_be_counted_says_why(
    problem: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Counted(problem))
    found = estimate(compose_point())
    assert found.keys() == {"reason"}
    assert found["reason"].startswith(reason) and len(found["reason"]) < 220


def test_an_embedded_model_is_counted() -> None:
    found = estimate(compose_point("model=llava", "num_samples=1"))
    weights = load("llava").footprint().model_bytes
    assert found["weight_bytes"] == pytest.approx(weights, rel=0.02)
    assert found["needed_bytes"] > found["weight_bytes"]
    assert found["at_least_s"] > 0


def test_points_of_equal_cost_are_counted_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = use(monkeypatch, Counted())
    sides = ("img_size=112", "img_size=168", "img_size=112")
    points = [compose_point("num_samples=1", side) for side in sides]
    points.append(compose_point("num_samples=1", "img_size=112", "profiler=quick"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pickle.dumps(points))))
    main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert engine.asked == 3
    assert len(lines) == 4 and lines[0] == lines[2] != lines[3]
