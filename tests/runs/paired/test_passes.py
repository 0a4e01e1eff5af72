"""Real passes of an embedded model in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from profiling.engines.engine import find_engine
from profiling.records import UNSUPPORTED
from profiling.runs.paired.comparing import REAL, Comparer
from profiling.runs.paired.opposed import Opposed
from profiling.runs.paired.requests import Passed
from profiling.runs.paired.side import Side, SideFailed
from tests.composing import compose_point
from tests.faking import make_plan
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load

SMALL = ("model=llava", "img_size=56", "profiler=quick")


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(name="a", plan=make_plan(tmp_path, *SMALL, "max_new_tokens=4"))
    yield side
    side.kill()


def test_a_side_runs_the_passes_that_the_latency_probe_times(side: Side) -> None:
    side.start_loading()
    prepared = side.await_loaded()
    assert (prepared.num_batches, prepared.on_cpu, prepared.gpu_uuid) == (3, True, None)
    assert prepared.pids == (side.pid,)
    side.begin(1)
    passes = [side.run_pass() for _ in range(6)]
    order = [one.batch for one in passes]
    assert sorted(order[:3]) == [0, 1, 2] and order[:3] == order[3:]
    side.begin(2)
    assert side.run_pass().batch == order[1]
    _check_phases(passes[-1])
    _check_that_it_sleeps(side)


def _check_phases(passed: Passed) -> None:
    times = dict(passed.times_s)
    total = times.pop("total")
    wanted = {"preprocess", "transfer", "vision", "projector", "prefill", "decode", "other"}
    assert times.keys() == wanted
    assert sum(times.values()) == pytest.approx(total)
    assert min(times.values()) > 0


def _check_that_it_sleeps(side: Side) -> None:
    """While the other side works, this process is not scheduled."""
    process = psutil.Process(side.pid)
    before = process.cpu_times()
    time.sleep(0.5)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) <= 0.05
    passed = side.run_pass()
    assert passed.idle_s >= 0.5 and passed.idle_cpu_s <= 0.05


@pytest.mark.slow
def test_an_engine_that_refuses_a_point_is_told_before_loading(tmp_path: Path) -> None:
    side = Side(name="b", plan=make_plan(tmp_path, *SMALL, "optimization=flash_attn"))
    try:
        side.start_loading()
        with pytest.raises(SideFailed) as failed:
            side.await_loaded()
    finally:
        side.kill()
    assert (failed.value.side, failed.value.status) == ("b", UNSUPPORTED)


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "qwen25vl"))
def test_weights_are_weighed_before_they_are_loaded(family: str) -> None:
    point = compose_point(f"model={family}")
    loaded = load(family).footprint().model_bytes
    assert loaded is not None
    assert find_engine(point).predict_bytes(point) == pytest.approx(loaded, rel=0.02)


@pytest.mark.slow
def test_a_process_weighs_what_is_not_stored(tmp_path: Path) -> None:
    side = Side(name="a", plan=make_plan(tmp_path, *SMALL[:2], "weights=random"))
    try:
        # 7 billion parameters in float16.
        assert 13.9e9 < (side.weigh() or 0) < 14.3e9
    finally:
        side.kill()


@pytest.mark.slow
def test_more_tokens_take_longer(tmp_path: Path) -> None:
    a, b = (make_plan(tmp_path, *SMALL, f"max_new_tokens={count}") for count in (24, 6))
    opposed = Opposed(a=a, b=b, launches=3, is_fixed=True)
    found = Comparer(opposed, notify=lambda _: None, means=REAL).run()
    assert found.whole.ratio > 1 and found.phases["decode"].ratio > 1
    assert found.content["same_batches"] and found.content["interleaved"] == "passes"
    assert found.whole.launches == 3
