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
BATCH_S = 2.0 + 3.0


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
    ("overrides", "passes"),
    [
        # 3 batches: answers and references, 4 repeats of each, 2 to warm up, 3 for memory.
        (("num_samples=5", "batch_size=2", "profiler.repeats=4"), 6 + 12 + 2 + 3),
        # No quality with random values, and at least 6 repeats; memory takes 8 passes at most.
        (("num_samples=9", "weights=random"), 6 * 9 + 2 + 8),
        (("num_samples=1", "profiler.probes.memory.passes=0"), 2 + 6 + 2),
    ],
)
def test_the_least_time_by_hand(
    overrides: tuple[str, ...], passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Counted())
    assert estimate(compose_point("profiler=quick", *overrides)) == {
        "at_least_s": pytest.approx(passes * BATCH_S),
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
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pickle.dumps(points))))
    main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert engine.asked == 2
    assert len(lines) == 3 and lines[0] == lines[2]
