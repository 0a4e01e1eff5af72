"""Compares the logits of a point that was measured with those of the plain model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from profiling import metrics
from profiling.divergence import reference as references
from profiling.divergence.judging import (
    TokenError,
    find_errors,
    find_roundoff,
    first_differences,
    judge,
)
from profiling.divergence.reference import FOLDER, Reference, address, answer_samples
from profiling.engines.engine import Engine, find_engine
from profiling.errors import Unsupported
from profiling.machine.machine import free_memory_bytes
from profiling.machine.resident import give_back_freed_memory
from profiling.models.weights import locate
from profiling.points.address import digest_code
from profiling.points.options import read_option
from profiling.points.point import DEFAULT_ENGINE, Point
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.samples.samples import Sample, digest_samples, full_batches

GIVER = "divergence"
_PLAIN = "baseline"
_IS_PLAIN = "this is the plain model in float32, which others are compared with"
_SINGLE = "float32"
# The packages that the plain model's inputs and logits depend on.
_VERSIONS = ("torch", "transformers", "tokenizers", "pillow", "numpy")
# What loading takes besides the weights.
_FACTOR = 1.2


def compare_logits(
    point: Point, samples: Sequence[Sample], engine: Engine, notify: Callable[[str], None]
) -> list[Reading]:
    """The rows about the logits; the plain model's own are kept for those that come later."""
    try:
        _check(point, engine)
        compared = _compared_samples(point, samples)
        reference = _obtain(point, compared, engine, notify)
        if reference is None:
            return _nothing(_IS_PLAIN)
        notify("comparing logits")
        return list(_describe(*measure_errors(point, compared, engine, reference), engine))
    except Unsupported as problem:
        return _nothing(str(problem))
    except Exception as problem:
        # What was measured before is worth more than this.
        if not (isinstance(problem, MemoryError) or engine.is_out_of_memory(problem)):
            raise
        return _nothing("memory ran out while logits were compared")


def _obtain(
    point: Point, samples: Sequence[Sample], engine: Engine, notify: Callable[[str], None]
) -> Reference | None:
    """What the plain model gave, kept where there is a results folder; None to the plain model."""
    results = Path(point.results_dir)
    if engine.is_plain and not results.is_dir():
        return None
    path = results / FOLDER / f"{_address(point, samples)}.safetensors"
    reference = references.find(path)
    if reference is None:
        notify("answering with the plain model")
        reference = make_reference(point, samples, engine)
        if results.is_dir():
            references.keep(path, reference)
    return None if engine.is_plain else reference


def measure_errors(
    point: Point, samples: Sequence[Sample], engine: Engine, reference: Reference
) -> tuple[list[TokenError], float]:
    """The error of each token, and of one rounding; as many batches as fit into the time."""
    roundoff = find_roundoff(engine.precisions(), int(reference.longest_sum[0]))
    begun, found = time.monotonic(), {}
    known = samples[: len(reference)]
    places = {sample.id: place for place, sample in enumerate(known)}
    for group in full_batches(known, point.batch_size):
        batch = engine.prepare(group, point.prompt_len)
        inputs = engine.place(engine.encode(batch, point.img_size))
        rows = [places[sample.id] for sample in group]
        tokens = [reference.tokens_of(row) for row in rows]
        logits = engine.forced_logits(inputs, tokens, point.max_new_tokens)
        # Too few samples are repeated to fill a batch.
        for row, own in zip(rows, logits, strict=True):
            found[row] = find_errors(reference, row, own, roundoff)
        if time.monotonic() - begun > point.profiler["time_budget_s"]:
            break
    return [one for row in sorted(found) for one in found[row]], roundoff


def _nothing(reason: str) -> list[Reading]:
    return [unavailable(declared.name, reason) for declared in metrics.list_given(GIVER)]


def _check(point: Point, engine: Engine) -> None:
    if type(engine).forced_logits is Engine.forced_logits:
        raise Unsupported("this engine gives no logits")
    dtype = engine.footprint().dtype
    if point.weights == "random" and dtype != _SINGLE:
        raise Unsupported(
            f"weights=random draws other values in {dtype} than in float32: nothing to compare with"
        )


def _settings(point: Point) -> dict[str, Any]:
    found: dict[str, Any] = point.profiler[GIVER]
    return found


def _compared_samples(point: Point, samples: Sequence[Sample]) -> list[Sample]:
    return list(samples[: _settings(point)["samples"]])


def _length(point: Point) -> int:
    return int(min(point.max_new_tokens, _settings(point)["tokens"]))


def _address(point: Point, samples: Sequence[Sample]) -> str:
    return address(
        {
            "model": point.model,
            "weights": locate(point).digest,
            "seed": point.seed if point.weights == "random" else None,
            "prompt": point.prompt,
            "samples": digest_samples(samples),
            "img_size": point.img_size,
            "prompt_len": point.prompt_len,
            "length": _length(point),
            "device": point.device.partition(":")[0],
            "budget_s": point.profiler["time_budget_s"],
            "versions": {name: version(name) for name in _VERSIONS},
            "code": digest_code(),
        }
    )


def make_reference(point: Point, samples: Sequence[Sample], engine: Engine) -> Reference:
    """By this engine where it is the plain model, else by one that is loaded for it alone."""
    given = {
        "img_size": point.img_size,
        "prompt_len": point.prompt_len,
        "length": _length(point),
        "budget_s": point.profiler["time_budget_s"],
    }
    if engine.is_plain:
        return answer_samples(engine, samples, **given)
    plain = _load_plain(point)
    try:
        return answer_samples(plain, samples, **given)
    except Exception as problem:
        if plain.is_out_of_memory(problem):
            raise Unsupported("the plain model in float32 ran out of memory") from None
        raise
    finally:
        plain.close()
        del plain
        give_back_freed_memory()


def _load_plain(point: Point) -> Engine:
    chosen = replace(
        point,
        engine_settings=read_option("engine", DEFAULT_ENGINE),
        optimization_settings=read_option("optimization", _PLAIN),
    )
    kind = find_engine(chosen)
    limits: list[float | None] = [_settings(point)["most_bytes"]]
    if point.device == "cpu":
        limits.append(free_memory_bytes() / _FACTOR)
    most_bytes = min((each for each in limits if each is not None), default=None)
    kind.prepare_process(chosen)
    try:
        return kind.load_plain(chosen, most_bytes=most_bytes)
    except Exception as problem:
        if kind.is_out_of_memory(problem):
            raise Unsupported("the plain model in float32 ran out of memory") from None
        raise


# The rows


def _describe(errors: Sequence[TokenError], roundoff: float, engine: Engine) -> Iterator[Reading]:
    count = len({one.sample for one in errors})
    where = f"{len(errors)} tokens of {count} samples, along the tokens of the plain model"
    yield from _by_token(errors)
    yield reading("compared_tokens", value=len(errors), status=DERIVED, source=where)
    yield reading(
        "differing_tokens",
        value=sum(one.differs for one in errors) / len(errors),
        status=MEASURED,
        source=f"another token is the likeliest; {where}",
    )
    worst = max(errors, key=lambda one: one.error)
    yield reading(
        "logit_error", value=worst.error, status=MEASURED, source=f"the largest of {where}"
    )
    off = max(errors, key=lambda one: one.relative)
    yield reading(
        "relative_logit_error",
        value=off.relative,
        status=MEASURED,
        source=f"root mean square over the spread of the plain logits, the largest of {where}",
    )
    yield reading(
        "reference_margin",
        value=min(one.margin for one in errors),
        status=MEASURED,
        source=f"the smallest of {where}",
    )
    yield from _judged(errors, engine, roundoff)
    yield from _first(errors)


def _by_token(errors: Sequence[TokenError]) -> Iterator[Reading]:
    for one in errors:
        values = {
            "logit_error": one.error,
            "relative_logit_error": one.relative,
            "rounding_scale": one.scale,
            "reference_margin": one.margin,
        }
        for name, value in values.items():
            yield reading(
                name,
                value=value,
                status=MEASURED,
                source="sample and token",
                batch=one.sample,
                repeat=one.token,
            )


def _judged(errors: Sequence[TokenError], engine: Engine, roundoff: float) -> Iterator[Reading]:
    worst = max(errors, key=lambda one: one.ratio)
    coarse = ", ".join(sorted(engine.precisions()))
    yield reading(
        "rounding_scale",
        value=worst.scale,
        status=DERIVED,
        source=f"one rounding of {roundoff:.1e} ({coarse}) at every module, as it grows in the"
        " plain model; where the logits are off most by it",
    )
    if engine.approximates is not None:
        yield unavailable("divergence", f"meant to differ: {engine.approximates}")
        return
    yield reading("divergence", value=worst.ratio, status=DERIVED, source=judge(errors))


def _first(errors: Sequence[TokenError]) -> Iterator[Reading]:
    """The first differing token whose margin is the largest: the one that is least of a tie."""
    names = ("first_difference", "first_difference_margin", "first_difference_error")
    found = first_differences(errors)
    if not found:
        yield from (unavailable(name, "no token differs") for name in names)
        return
    clearest = max(found, key=lambda one: one.margin)
    source = f"sample {clearest.sample}, that with the largest margin of {len(found)} that differ"
    values = (clearest.token, clearest.margin, clearest.error)
    for name, value in zip(names, values, strict=True):
        yield reading(name, value=value, status=MEASURED, source=source)
