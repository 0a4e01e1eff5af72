"""Variant probe: what it takes to make the model that is measured out of the plain one.

Whatever is made for the shapes of a point (a cache of fixed length, compiled code) is made here,
before anything is measured, and what is made anew while measuring is counted as such.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from profiling.engines.transformers.compilation import NeverCompiled
from profiling.engines.workload import Workload
from profiling.models.model import Model
from profiling.probes.memory import PeakWatch
from profiling.records import DERIVED, MEASURED, Reading, unavailable

_SAMPLE_S = 0.01
_ONE_TOKEN = "the only new token comes out of the first pass, which is not compiled"
_UNKNOWN_PEAK = "made by an earlier run, which left no peak"


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What was made for the shapes of a point before measuring."""

    peak_bytes: int
    compile_s: float
    num_graphs: int
    calls_per_token: float | None  # of compiled graphs; None where no step is compiled


def settle(workload: Workload) -> Settled:
    """A pass for each length of prompt, the longest first: none later needs a longer cache."""
    model = workload.model
    model.start_afresh()
    with PeakWatch(sample_interval_s=_SAMPLE_S) as peak:
        order = _longest_first(workload)
        for index in order:
            workload.run(index)
        calls = _count_calls(workload, order[0])
    compilation = model.compilation
    return Settled(
        peak_bytes=peak.peak_bytes - peak.before_bytes,
        compile_s=compilation.compile_s if compilation else 0.0,
        num_graphs=compilation.num_graphs if compilation else 0,
        calls_per_token=calls,
    )


def _longest_first(workload: Workload) -> list[int]:
    """One batch of each length of prompt."""
    by_length: dict[int, int] = {}
    for index in range(len(workload.batches)):
        length = workload.encode(index)["input_ids"].shape[1]
        by_length.setdefault(int(length), index)
    return [by_length[length] for length in sorted(by_length, reverse=True)]


def _count_calls(workload: Workload, index: int) -> float | None:
    """Calls of compiled graphs for each token after the first, by one more pass."""
    compilation, steps = workload.model.compilation, workload.max_new_tokens - 1
    if compilation is None or not steps:
        return None
    before = compilation.num_calls
    workload.run(index)
    calls = compilation.num_calls - before
    if calls < steps:
        raise NeverCompiled(f"of {steps} steps of decoding, {calls} ran compiled")
    return calls / steps


def compiled_since(workload: Workload, settled: Settled | None) -> int:
    """How many graphs were compiled after everything had been made."""
    compilation = workload.model.compilation
    if compilation is None or settled is None:
        return 0
    return compilation.num_graphs - settled.num_graphs


def read_variant(
    workload: Workload, settled: Settled | None, *, load_peak_bytes: int
) -> Iterator[Reading]:
    """Rows about the variant; nothing where the model is the plain one."""
    model = workload.model
    yield from _read_making(model, settled, load_peak_bytes)
    if "quantized_share" in model.notes:
        yield _read_share(model.notes["quantized_share"])
    if settled is not None and model.compilation is not None:
        yield from _read_compilation(workload, settled)


def _read_making(model: Model, settled: Settled | None, load_peak_bytes: int) -> Iterator[Reading]:
    notes, compiled = model.notes, model.compilation is not None and settled is not None
    reading = partial(Reading, phase="run")
    seconds = [notes["make_s"]] if "make_s" in notes else []
    seconds += [settled.compile_s] if settled and compiled else []
    if seconds:
        source = "perf_counter around exporting, cutting, quantizing and compiling; what was cut"
        source += " or exported by an earlier run counts as that run measured it"
        yield reading(metric="make_s", value=sum(seconds), unit="s", status=MEASURED, source=source)
        yield _read_peak(model, settled if compiled else None, load_peak_bytes)
    if "artifact_bytes" in notes:
        yield reading(
            metric="artifact_bytes",
            value=notes["artifact_bytes"],
            unit="bytes",
            status=MEASURED,
            source="sizes of the files that the variant is loaded from",
        )


def _read_peak(model: Model, settled: Settled | None, load_peak_bytes: int) -> Reading:
    peaks = [model.notes["make_peak_bytes"]] if "make_peak_bytes" in model.notes else []
    # Weights are quantized while they are loaded.
    peaks += [load_peak_bytes] if "quantized_share" in model.notes else []
    peaks += [settled.peak_bytes] if settled else []
    if not peaks:
        return unavailable("run", "make_peak_bytes", "bytes", _UNKNOWN_PEAK)
    return Reading(
        phase="run",
        metric="make_peak_bytes",
        value=max(peaks),
        unit="bytes",
        status=MEASURED,
        source="highest resident memory while making the variant, above that before",
    )


def _read_share(share: float) -> Reading:
    return Reading(
        phase="run",
        metric="quantized_share",
        value=share,
        unit="1",
        status=DERIVED,
        source="values in few bits over all values of parameters",
    )


def _read_compilation(workload: Workload, settled: Settled) -> Iterator[Reading]:
    reading = partial(Reading, phase="run", unit="1", status=MEASURED)
    yield reading(
        metric="compile_s",
        value=settled.compile_s,
        unit="s",
        source="perf_counter around compilations before measuring; the compiler's own cache"
        " of earlier results in place",
    )
    source = "counted where the library hands a traced graph over to be compiled"
    yield reading(metric="num_compilations", value=settled.num_graphs, source=source)
    yield reading(
        metric="num_recompilations",
        value=compiled_since(workload, settled),
        source=f"{source}, after measuring had begun",
    )
    if settled.calls_per_token is None:
        yield unavailable("decode", "compiled_calls_per_token", "1", _ONE_TOKEN)
        return
    yield reading(
        phase="decode",
        metric="compiled_calls_per_token",
        value=settled.calls_per_token,
        source="calls of compiled graphs in one batch over its steps of decoding",
    )
