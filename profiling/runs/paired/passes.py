"""Runs single passes of one point for a parent that decides when: the child's side."""

from __future__ import annotations

import gc
import time
import traceback
from typing import Any

from profiling.engines.engine import Engine, find_engine
from profiling.engines.workload import Rotation, Workload
from profiling.points.point import Point
from profiling.records import FAILED
from profiling.runs.failures import classify, describe_problem, judge_memory
from profiling.runs.paired.requests import (
    Begin,
    Failure,
    Passed,
    Prepare,
    Prepared,
    Request,
    Weigh,
)
from profiling.samples.samples import full_batches

TOTAL = "total"


class PassServer:
    """A loaded point and its batches. Between two requests it waits and uses no CPU time."""

    def __init__(self) -> None:
        self._point: Point | None = None
        self._engine: Engine | None = None
        self._workload: Workload | None = None
        self._rotation: Rotation | None = None
        self._waits = _Waits()

    def answer(self, request: Request) -> Any:
        try:
            return self._answer(request)
        except Exception as problem:
            assert self._point is not None
            status = classify(problem, judge_memory(self._point))
            text = "".join(traceback.format_exception(problem)) if status == FAILED else None
            return Failure(status=status, error=describe_problem(problem), traceback=text)

    def _answer(self, request: Request) -> Any:
        if isinstance(request, (Weigh, Prepare)):
            self._point = request.point
        if isinstance(request, Weigh):
            return find_engine(request.point).predict_bytes(request.point)
        if isinstance(request, Prepare):
            return self._prepare(request)
        if isinstance(request, Begin):
            return self._begin(request.position)
        return self._run()

    def _prepare(self, request: Prepare) -> Prepared:
        point = request.point
        find_engine(point).check_samples(point, request.samples)
        self._engine, load_s = _load(point)
        self._workload = Workload(
            engine=self._engine,
            batches=full_batches(request.samples, point.batch_size),
            img_size=point.img_size,
            prompt_len=point.prompt_len,
            max_new_tokens=point.max_new_tokens,
            preload=point.preload,
        )
        self._engine.settle(self._workload)
        self._rotation = Rotation(self._workload)
        footprint = self._engine.footprint()
        return Prepared(
            pids=footprint.pids,
            gpu_uuid=footprint.gpu_uuid,
            on_cpu=footprint.on_cpu,
            num_batches=len(self._workload.batches),
            load_s=load_s,
        )

    def _begin(self, position: int) -> None:
        assert self._workload is not None and self._engine is not None
        self._rotation = Rotation(self._workload)
        for _ in range(position % len(self._rotation)):
            self._rotation.next_batch()
        self._engine.begin_pass()
        # What exists already can no longer cause a pause of the collector amid a pass.
        gc.collect()
        gc.freeze()
        self._waits.begin()

    def _run(self) -> Passed:
        assert self._rotation is not None
        idle_s, idle_cpu_s = self._waits.end()
        batch, timing = self._rotation.run_timed()
        self._waits.begin()
        return Passed(
            batch=batch,
            times_s={TOTAL: timing.latency_s, **timing.phases_s},
            idle_s=idle_s,
            idle_cpu_s=idle_cpu_s,
        )

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def _load(point: Point) -> tuple[Engine, float]:
    kind = find_engine(point)
    kind.check(point)
    kind.prepare_process(point)
    begun = time.perf_counter()
    engine = kind.load(point)
    engine.synchronize()
    return engine, time.perf_counter() - begun


class _Waits:
    """Time, and CPU time of this process, between two passes."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def end(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
