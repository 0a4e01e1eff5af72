"""The only loop: build a model, watch it with every probe, ask it every question, and record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.optimizations.optimization import build_stack, prepare_stack
from profiling.engines.transformers.teacher import reference_nlls
from profiling.engines.workload import Workload
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.nvml import board_of, cuda_uuid
from profiling.models.loading import find_family
from profiling.models.model import Model, Prepared
from profiling.points.point import Point
from profiling.probes.memory import PeakWatch
from profiling.probes.picture_cache import read_picture_cache
from profiling.probes.roofline import place_phases
from profiling.probes.variant import compiled_since, read_variant, settle
from profiling.quality import Answered, sample_wer, score, score_nothing
from profiling.quality.normalizing import choose_reference
from profiling.records import DERIVED, MEASURED, Reading, unavailable
from profiling.samples.samples import Sample, batches, full_batches

Notify = Callable[[str], None]

_NO_QUALITY = "weights=random: random values answer nothing, so there is no quality to state"
_LOAD_SAMPLE_S = 0.01


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model and what it cost to get it."""

    model: Model
    load_s: float
    load_peak_bytes: int
    load_peak_source: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything seen at one point."""

    readings: list[Reading]
    answers: list[dict[str, Any]]
    dtype: str
    noise: str | None


def load(point: Point) -> LoadedModel:
    """Load a model; importing the libraries that it takes is no part of its loading time."""
    preparing = _prepare_probes(point)
    find_family(point.model)
    stack = prepare_stack(point)
    for thread in preparing:
        thread.join()
    with PeakWatch(sample_interval_s=_LOAD_SAMPLE_S) as peak:
        begun = time.perf_counter()
        model = build_stack(point, stack)
        model.synchronize()
        load_s = time.perf_counter() - begun
    return LoadedModel(
        model=model,
        load_s=load_s,
        load_peak_bytes=peak.peak_bytes - peak.before_bytes,
        load_peak_source=peak.source,
    )


def measure(
    point: Point, samples: Sequence[Sample], loaded: LoadedModel, notify: Notify
) -> Findings:
    """The answers, then all probes, one after the other and each with passes of its own."""
    notify("preparing samples")
    workload = Workload(
        model=loaded.model,
        batches=full_batches(samples, point.batch_size),
        img_size=point.img_size,
        prompt_len=point.prompt_len,
        max_new_tokens=point.max_new_tokens,
        preload=point.preload,
    )
    probes = {
        name: find_probe(name)(**settings) for name, settings in point.profiler["probes"].items()
    }
    settled = None
    if loaded.model.has_fixed_cache:
        notify("making what fits these samples")
        settled = settle(workload)
    notify("answering")
    loaded.model.begin_pass()
    answers = list(answer(point, samples, loaded.model))
    # Before any other pass, which would begin with the cache empty.
    found = list(read_picture_cache(loaded.model))
    if compiled_since(workload, settled):
        # For a last batch that was not full: what it left would serve full batches as well.
        settled = settle(workload)
    readings = [
        *found,
        *_describe(loaded),
        *_mean_counts(answers),
        *_judge(point, samples, answers),
    ]
    noise: list[str] = []
    for name, probe in probes.items():
        notify(f"measuring {name}")
        with _gate(point, loaded.model, timed=getattr(probe, "timed", False)) as gate:
            readings.extend(probe.measure(workload))
        readings.extend(gate.readings())
        noise.extend([gate.reason] if gate.reason else [])
    notify("placing phases under the roofline")
    readings.extend(place_phases(workload, readings, **point.profiler["roofline"]))
    readings.extend(read_variant(workload, settled, load_peak_bytes=loaded.load_peak_bytes))
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    return Findings(readings=readings, answers=answers, dtype=dtype, noise="; ".join(noise) or None)


def _prepare_probes(point: Point) -> list[Thread]:
    """Have probes that are slow to start do so beside the imports, where nothing is timed."""
    started = []
    for name in point.profiler["probes"]:
        prepare = getattr(find_probe(name), "prepare", None)
        if prepare is not None:
            started.append(prepare(torch.device(point.device)))
    return [thread for thread in started if thread is not None]


def find_probe(name: str) -> Any:
    """The probe in the module of the same name as the key in the yaml."""
    return import_module(f"profiling.probes.{name}").PROBE


@contextmanager
def _gate(point: Point, model: Model, *, timed: bool) -> Iterator[NoiseGate | NoGate]:
    """Watches the machine while a probe that times things is at work."""
    if not timed:
        yield NoGate()
        return
    limits = NoiseLimits(**point.profiler["noise"])
    with board_of(cuda_uuid(model.device)) as board:
        gate = NoiseGate(limits=limits, board=board, cpu_bound=model.device.type == "cpu")
        with gate:
            yield gate


class NoGate:
    """Stands where nothing is timed."""

    reason: None = None

    def readings(self) -> tuple[Reading, ...]:
        return ()


def _describe(loaded: LoadedModel) -> Iterator[Reading]:
    model = loaded.model
    yield Reading(
        phase="run",
        metric="load_s",
        value=loaded.load_s,
        unit="s",
        status=MEASURED,
        source="perf_counter around loading, when this process loaded the model",
    )
    yield Reading(
        phase="run",
        metric="model_bytes",
        value=model.parameter_bytes(),
        unit="bytes",
        status=DERIVED,
        source="parameters and buffers, shared ones once",
    )
    yield Reading(
        phase="run",
        metric="load_peak_bytes",
        value=loaded.load_peak_bytes,
        unit="bytes",
        status=MEASURED,
        source=f"{loaded.load_peak_source}; above resident memory before loading",
    )


def answer(point: Point, samples: Sequence[Sample], model: Model) -> Iterator[dict[str, Any]]:
    """A line a sample: what was asked, what was seen and what was answered."""
    for batch in batches(samples, point.batch_size):
        prepared = [model.prepare(sample, point.prompt_len) for sample in batch]
        yield from _answer_batch(point, model, prepared)


def _answer_batch(
    point: Point, model: Model, prepared: Sequence[Prepared]
) -> Iterator[dict[str, Any]]:
    inputs = model.encode(prepared, point.img_size)
    texts: list[str | None] = [None] * len(prepared)
    new_counts: list[int | None] = [None] * len(prepared)
    nlls: list[float | None] = [None] * len(prepared)
    if model.stored_values:
        placed = model.place(inputs)
        tokens = model.generate(
            placed, side=point.img_size, length=point.max_new_tokens, exact=False
        ).cpu()
        texts, new_counts = list(model.family.decode(tokens)), list(model.count_new_tokens(tokens))
        nlls = _teach(point, model, placed, prepared)
    prompt_counts = inputs["attention_mask"].sum(dim=1).tolist()
    visual_counts = model.family.count_visual_tokens(inputs["input_ids"]).tolist()
    sizes = model.family.seen_sizes(inputs)
    for row, item in enumerate(prepared):
        references = item.sample.references
        text = texts[row]
        yield {
            "id": item.sample.id,
            "prompt": item.prompt,
            "references": list(references),
            "answer": text,
            "wer": None if text is None else sample_wer(text, references, point.headline_reference),
            "num_question_tokens": len(model.family.question_token_ends(item.question)),
            "num_prompt_tokens": prompt_counts[row],
            "num_visual_tokens": visual_counts[row],
            "num_new_tokens": new_counts[row],
            "image_width": sizes[row][0],
            "image_height": sizes[row][1],
            "reference_nll": nlls[row],
        }


def _teach(
    point: Point, model: Model, placed: dict[str, Tensor], prepared: Sequence[Prepared]
) -> list[float | None]:
    """What the references cost the model; the whole batch goes in, as it was answered."""
    chosen = [choose_reference(p.sample.references, point.headline_reference) for p in prepared]
    cache = model.picture_cache
    with cache.uncounted() if cache else nullcontext():
        nlls = reference_nlls(
            model,
            placed,
            [reference or "" for reference in chosen],
            side=point.img_size,
            length=point.max_new_tokens,
        )
    return [None if ref is None else nll for ref, nll in zip(chosen, nlls, strict=True)]


def _mean_counts(answers: Sequence[dict[str, Any]]) -> Iterator[Reading]:
    for metric in (
        "num_question_tokens",
        "num_prompt_tokens",
        "num_visual_tokens",
        "num_new_tokens",
    ):
        values = [line[metric] for line in answers if line[metric] is not None]
        if not values:
            yield unavailable("run", metric, "1", _NO_QUALITY)
            continue
        yield Reading(
            phase="run",
            metric=metric,
            value=sum(values) / len(values),
            unit="1",
            status=DERIVED,
            source="counted in the tensors of every sample, mean per sample",
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
