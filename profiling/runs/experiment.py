"""The only loop: load an engine, ask it every question, watch it with every probe, and record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from threading import Thread
from types import MappingProxyType
from typing import Any

from profiling.divergence.measuring import compare_logits
from profiling.engines.engine import Engine, Loading, Row, find_engine
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.machine.noise import BoardLog, NoiseGate, NoiseLimits, describe_noise, find_noise
from profiling.machine.nvml import board_of
from profiling.machine.peak_watch import PeakWatch
from profiling.points.point import Point
from profiling.probes.roofline import place_phases
from profiling.quality import Answered, sample_wer, score, score_nothing
from profiling.quality.normalizing import choose_reference
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.runs.tracing import trace_pass
from profiling.samples.samples import Sample, batches, full_batches

Notify = Callable[[str], None]

_NO_QUALITY = "weights=random: random values answer nothing, so there is no quality to state"
_LOAD_SAMPLE_S = 0.01
_COUNTS = ("num_question_tokens", "num_prompt_tokens", "num_visual_tokens", "num_new_tokens")
_SHOWN = {"pictures": "num_pictures", "frames": "num_frames"}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An engine and what it took to get it."""

    engine: Engine
    loading: Loading


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything seen at one point."""

    readings: list[Reading]
    answers: list[dict[str, Any]]
    dtype: str | None
    computes_in: str | None
    noise: str | None
    # The trace of `trace=true`, in Chrome's format.
    trace: bytes | None


def load(point: Point) -> Loaded:
    """Load an engine; importing the libraries that it takes is no part of its loading time."""
    kind = find_engine(point)
    kind.check(point)
    preparing = _prepare_probes(point)
    kind.prepare_process(point)
    for thread in preparing:
        thread.join()
    with PeakWatch(sample_interval_s=_LOAD_SAMPLE_S) as peak:
        begun = time.perf_counter()
        engine = kind.load(point)
        engine.synchronize()
        load_s = time.perf_counter() - begun
    loading = Loading(
        load_s=load_s,
        peak_bytes=peak.peak_bytes - peak.before_bytes,
        peak_source=peak.source,
    )
    return Loaded(engine=engine, loading=loading)


def check_samples(point: Point, samples: Sequence[Sample]) -> None:
    """Raise Unsupported where samples show what the engine cannot take; nothing is loaded."""
    find_engine(point).check_samples(point, samples)


def measure(point: Point, samples: Sequence[Sample], loaded: Loaded, notify: Notify) -> Findings:
    """The answers, then all probes, one after the other and each with passes of its own."""
    engine = loaded.engine
    # Before anything runs, since a probe refuses settings that cannot be right.
    probes = {
        name: find_probe(name)(**settings) for name, settings in point.profiler["probes"].items()
    }
    notify("preparing samples")
    workload = Workload(
        engine=engine,
        batches=full_batches(samples, point.batch_size),
        img_size=point.img_size,
        prompt_len=point.prompt_len,
        max_new_tokens=point.max_new_tokens,
        preload=point.preload,
    )
    notify("settling")
    engine.settle(workload)
    notify("answering")
    engine.begin_pass()
    answers = list(answer(point, samples, engine))
    # Before any other pass, which would begin afresh.
    readings = list(engine.answered())
    # A last batch that was not full has shapes of its own, and what it left serves full ones too.
    engine.settle(workload)
    readings += [
        *_describe(loaded),
        *_mean_counts(answers, engine),
        *_judge(point, samples, answers),
    ]
    gates: dict[str, NoiseGate | NoGate] = {}
    for name, probe in probes.items():
        notify(f"measuring {name}")
        with _gate(point, engine, probe, timed=probe.timed) as gate:
            readings.extend(probe.measure(workload))
        gates[name] = gate
    readings.extend(describe_noise(gates))
    notify("placing phases under the roofline")
    limits = NoiseLimits(**point.profiler["noise"])
    readings.extend(place_phases(workload, readings, limits=limits, **point.profiler["roofline"]))
    readings.extend(engine.readings(workload, loaded.loading))
    trace = None
    if point.trace:
        notify("tracing operators")
        traced = trace_pass(workload)
        readings.extend(traced.readings)
        trace = traced.chrome
    if point.divergence:
        readings.extend(compare_logits(point, samples, engine, notify))
    footprint = engine.footprint()
    return Findings(
        readings=readings,
        answers=answers,
        dtype=footprint.dtype,
        computes_in=footprint.computes_in,
        noise=find_noise(gates),
        trace=trace,
    )


def _prepare_probes(point: Point) -> list[Thread]:
    """Have probes that are slow to start do so beside the imports, where nothing is timed."""
    started = []
    for name in point.profiler["probes"]:
        prepare = getattr(find_probe(name), "prepare", None)
        if prepare is not None:
            started.append(prepare(point.device))
    return [thread for thread in started if thread is not None]


def find_probe(name: str) -> Any:
    """The probe in the module of the same name as the key in the yaml."""
    return import_module(f"profiling.probes.{name}").PROBE


@contextmanager
def _gate(point: Point, engine: Engine, probe: Any, *, timed: bool) -> Iterator[NoiseGate | NoGate]:
    """Watches the machine while a probe is at work that others could disturb."""
    if not timed:
        yield NoGate()
        return
    limits = NoiseLimits(**point.profiler["noise"])
    footprint = engine.footprint()
    with board_of(footprint.gpu_uuid) as board:
        gate = NoiseGate(
            limits=limits,
            board=board,
            cpu_bound=footprint.on_cpu,
            idles=getattr(probe, "idles", False),
            pids=footprint.pids,
        )
        with gate:
            yield gate


class NoGate:
    """Stands where nothing is measured that others could disturb."""

    figures: Mapping[str, float] = MappingProxyType({})
    reason: None = None
    board: None = None
    idles = False
    log = BoardLog()


def _describe(loaded: Loaded) -> Iterator[Reading]:
    model_bytes = loaded.engine.footprint().model_bytes
    yield from _describe_loading(loaded)
    if model_bytes is None:
        yield unavailable("model_bytes", "the engine does not show its weights")
    else:
        yield reading(
            metric="model_bytes",
            value=model_bytes,
            status=DERIVED,
            source="parameters and buffers, shared ones once",
        )


def _describe_loading(loaded: Loaded) -> Iterator[Reading]:
    loading, not_loaded = loaded.loading, loaded.engine.not_loaded
    if not_loaded is not None:
        yield unavailable("load_s", not_loaded)
        yield unavailable("load_peak_bytes", not_loaded)
        return
    yield reading(
        metric="load_s",
        value=loading.load_s,
        status=MEASURED,
        source="perf_counter around loading, when this process loaded the model",
    )
    yield reading(
        metric="load_peak_bytes",
        value=loading.peak_bytes,
        status=MEASURED,
        source=f"{loading.peak_source}; above resident memory before loading",
    )


def answer(point: Point, samples: Sequence[Sample], engine: Engine) -> Iterator[dict[str, Any]]:
    """A line a sample: what was asked, what was seen and what was answered."""
    for group in batches(samples, point.batch_size):
        yield from _answer_batch(point, group, engine)


def _answer_batch(
    point: Point, group: Sequence[Sample], engine: Engine
) -> Iterator[dict[str, Any]]:
    batch = engine.prepare(group, point.prompt_len)
    inputs = engine.encode(batch, point.img_size)
    generated: Any = None
    nlls: list[float | None] = [None] * len(group)
    if engine.has_values:
        placed = engine.place(inputs)
        generated = engine.generate(placed, length=point.max_new_tokens, exact=False, trace=None)
        nlls = _teach(point, group, engine, placed)
    rows = engine.describe(batch, inputs, generated)
    for sample, row, nll in zip(group, rows, nlls, strict=True):
        yield _answer_line(point, sample, row, nll)


def _answer_line(point: Point, sample: Sample, row: Row, nll: float | None) -> dict[str, Any]:
    seen = asdict(row)
    wer = None
    if row.answer is not None:
        wer = sample_wer(row.answer, sample.references, point.headline_reference)
    return {
        "id": sample.id,
        "prompt": seen.pop("prompt"),
        "references": list(sample.references),
        "answer": seen.pop("answer"),
        "wer": wer,
        **seen,
        "num_pictures": len(sample.pictures),
        "num_frames": sample.num_frames,
        "asked_picture": sample.asked_picture,
        "reference_nll": nll,
    }


def _teach(
    point: Point, group: Sequence[Sample], engine: Engine, placed: Any
) -> list[float | None]:
    """What the references cost the model; the whole batch goes in, as it was answered."""
    chosen = [choose_reference(s.references, point.headline_reference) for s in group]
    try:
        nlls = engine.reference_nlls(placed, [c or "" for c in chosen], point.max_new_tokens)
    except Unsupported:
        return [None] * len(group)
    return [None if ref is None else nll for ref, nll in zip(chosen, nlls, strict=True)]


def _mean_counts(answers: Sequence[dict[str, Any]], engine: Engine) -> Iterator[Reading]:
    status, source = engine.counted
    for metric in _COUNTS:
        values = [line[metric] for line in answers if line[metric] is not None]
        if not values:
            reason = _NO_QUALITY if metric == "num_new_tokens" else "the engine does not tell"
            yield unavailable(metric, reason)
            continue
        yield reading(
            metric=metric,
            value=sum(values) / len(values),
            status=status,
            source=source,
        )
    for metric, field in _SHOWN.items():
        yield reading(
            metric=metric,
            value=sum(line[field] for line in answers) / len(answers),
            status=DERIVED,
            source="counted in what every sample shows, mean per sample",
        )


def _judge(
    point: Point, samples: Sequence[Sample], answers: Sequence[dict[str, Any]]
) -> list[Reading]:
    if any(line["answer"] is None for line in answers):
        return score_nothing(
            _NO_QUALITY, headline=point.headline_reference, accuracy=point.accuracy
        )
    answered = [
        Answered(
            id=sample.id,
            answer=line["answer"],
            references=sample.references,
            reference_nll=line["reference_nll"],
        )
        for sample, line in zip(samples, answers, strict=True)
    ]
    return score(answered, headline=point.headline_reference, accuracy=point.accuracy)
