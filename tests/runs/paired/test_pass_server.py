"""The child's side of a comparison, in this process: what it answers, and how it fails."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from profiling.records import FAILED, UNSUPPORTED
from profiling.runs.paired import passes
from profiling.runs.paired.passes import PassServer
from profiling.runs.paired.requests import Begin, Failure, Pass, Passed, Prepare, Prepared, Weigh
from tests.composing import compose_point
from tests.tiny_models import load, take_samples

POINT = compose_point("model=llava", "img_size=56", "max_new_tokens=2", "batch_size=2")


@pytest.fixture
def server() -> Iterator[PassServer]:
    server = PassServer()
    yield server
    server.close()
    gc.unfreeze()


def test_passes_go_on_from_any_place_of_the_order(server: PassServer) -> None:
    prepared = server.answer(Prepare(point=POINT, samples=list(take_samples(4))))
    assert isinstance(prepared, Prepared)
    assert (prepared.num_batches, prepared.on_cpu) == (2, True)
    order = []
    for position in (0, 1, 3):
        assert server.answer(Begin(position=position)) is None
        passed = server.answer(Pass())
        assert isinstance(passed, Passed)
        order.append(passed.batch)
        parts = dict(passed.times_s)
        assert parts.pop("total") == pytest.approx(sum(parts.values()))
        assert passed.idle_cpu_s >= 0
    assert sorted(order[:2]) == [0, 1] and order[2] == order[1]


def test_weights_are_weighed(server: PassServer) -> None:
    expected = load("llava").footprint().model_bytes
    assert server.answer(Weigh(point=POINT)) == pytest.approx(expected, rel=0.02)


def test_what_cannot_be_had_is_no_traceback(server: PassServer) -> None:
    point = compose_point("model=llava", "optimization=flash_attn")
    failure = server.answer(Prepare(point=point, samples=list(take_samples(1))))
    assert isinstance(failure, Failure)
    assert (failure.status, failure.traceback) == (UNSUPPORTED, None)
    assert "needs a GPU" in failure.error


def test_a_fault_has_its_traceback(server: PassServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(point: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(passes, "find_engine", find)
    failure = server.answer(Weigh(point=POINT))
    assert isinstance(failure, Failure)
    assert failure.status == FAILED and "planted" in failure.error
    assert failure.traceback is not None and "in find" in failure.traceback
