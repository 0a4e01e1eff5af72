"""Runs the requested modes and prints the final table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from profiling.errors import ConfigError, Unsupported
from profiling.graphs.check import ExportFailed
from profiling.models.loading import load_family
from profiling.models.weights import describe_weights, locate, stored_format
from profiling.partition.conversion import convert_parts, run_engine
from profiling.partition.conversion_check import ConversionFailed
from profiling.partition.exporting import export_parts
from profiling.partition.outcomes import Outcome, draw_table
from profiling.partition.running import RunFirst, Task, convert, run_onnx, run_original, run_split
from profiling.partition.standalone import ScriptFailed, run_standalone
from profiling.parts.reduced import PartMissing
from profiling.points.point import Point
from profiling.runtimes.runtime import RuntimeAbsent
from profiling.samples.samples import Sample

# Failures of a correct command, each with a message of one line.
FAILURES = (
    ConversionFailed,
    ExportFailed,
    PartMissing,
    RunFirst,
    RuntimeAbsent,
    ScriptFailed,
    Unsupported,
)
_MODES: Mapping[str, Callable[[Task], Outcome]] = {
    "original": run_original,
    "split_native": run_split,
    "convert_onnx": convert,
    "run_onnx": run_onnx,
    "save_standalone": run_standalone,
    "export_parts": export_parts,
    "convert": convert_parts,
    "run_engine": run_engine,
}


def run_modes(
    point: Point, sample: Sample, modes: Sequence[str], chosen: Mapping[str, Any]
) -> Iterator[str]:
    """Lines of text; the original is always asked, since the others are compared with it."""
    torch.set_num_threads(point.threads)
    task = _read_task(point, sample, chosen)
    yield f"{describe_weights(point)}; {chosen['dtype']} on {point.device}"
    yield f"question: {sample.request}"
    outcomes: list[Outcome] = []
    for mode in dict.fromkeys(("original", *modes)):
        outcome = _MODES[mode](task)
        outcomes.append(outcome)
        yield f"{mode}: {outcome.text!r}"
    yield ""
    yield from draw_table(outcomes, outcomes[0])
    yield f"written to {task.output}"


def _read_task(point: Point, sample: Sample, chosen: Mapping[str, Any]) -> Task:
    source = locate(point)
    stored = stored_format(point)
    if stored is not None:
        told = f"it is {stored.describe()}; allowed is one whose weights are not quantized"
        raise ConfigError("--checkpoint", point.checkpoint, told)
    return Task(
        point=point,
        source=source,
        family=load_family(point, source),
        sample=sample,
        dtype=getattr(torch, chosen["dtype"]),
        output=Path(chosen["output_dir"]),
        pt=chosen["pt"],
        quantize=chosen["quantize"],
        onnx_layout=chosen["onnx_layout"],
        parts=chosen["parts"],
        simplify=chosen["simplify"],
        engine=chosen["engine"],
        prompt_lengths=chosen["prompt_lengths"] or (),
    )
