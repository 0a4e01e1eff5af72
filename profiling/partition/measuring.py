"""One question taken through an engine: what it answers, and what the project's probes read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import yaml

from profiling import PROJECT
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.workload import Workload
from profiling.machine.peak_watch import PeakWatch
from profiling.partition.outcomes import Outcome
from profiling.points.point import Point
from profiling.probes.latency import LatencyProbe
from profiling.probes.memory import MemoryProbe
from profiling.records import MEASURED, Reading, reading
from profiling.samples.samples import Sample

_PROFILER = PROJECT / "conf" / "profiler" / "quick.yaml"
_SAMPLE_S = 0.01


def measure(mode: str, load: Callable[[], LoadedModel], *, point: Point, sample: Sample) -> Outcome:
    """Load a form of the model, ask it, and time it as runs are timed."""
    with PeakWatch(sample_interval_s=_SAMPLE_S) as peak:
        begun = time.perf_counter()
        engine = TransformersEngine(loaded=load(), stack=())
        engine.synchronize()
        load_s = time.perf_counter() - begun
    workload = Workload(
        engine=engine,
        batches=[[sample]],
        img_size=point.img_size,
        prompt_len=None,
        max_new_tokens=point.max_new_tokens,
        preload=True,
    )
    tokens, text = _answer(workload)
    readings = {reading.metric: reading for reading in _probe(workload) if reading.is_aggregate}
    readings["load_peak_bytes"] = _load_peak(peak)
    return Outcome(mode=mode, load_s=load_s, readings=readings, tokens=tokens, text=text)


def _answer(workload: Workload) -> tuple[list[int], str]:
    """The tokens and the text up to a natural stop."""
    engine = workload.engine
    batch = engine.prepare(workload.batches[0], None)
    inputs = engine.place(engine.encode(batch, workload.img_size))
    generated = engine.generate(inputs, length=workload.max_new_tokens, exact=False, trace=None)
    (tokens,), (row,) = engine.tokens(generated), engine.describe(batch, inputs, generated)
    return tokens, row.answer or ""


def _probe(workload: Workload) -> Iterator[Reading]:
    settings = _settings()
    yield from LatencyProbe(**settings["latency"]).measure(workload)
    yield from MemoryProbe(**settings["memory"]).measure(workload)


@cache
def _settings() -> dict[str, Any]:
    """How probes repeat: as in a quick run."""
    profiler = yaml.safe_load(_PROFILER.read_text(encoding="utf-8"))
    probes: dict[str, Any] = profiler["probes"]
    probes["latency"] |= {name: profiler[name] for name in ("repeats", "time_budget_s")}
    probes["memory"] |= {"time_budget_s": profiler["time_budget_s"]}
    return probes


def _load_peak(peak: PeakWatch) -> Reading:
    return reading(
        metric="load_peak_bytes",
        value=peak.peak_bytes - peak.before_bytes,
        status=MEASURED,
        source=f"{peak.source}; above resident memory before loading",
    )
