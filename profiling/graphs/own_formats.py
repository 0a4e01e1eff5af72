"""Graphs with weights in a format of the runtime that opens them, and how far they are off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from profiling.graphs.check import distance, in_single_precision, write_check
from profiling.graphs.feeds import check_sizes, feeds_of, noise
from profiling.graphs.graph_cache import digest_code
from profiling.graphs.layouts import size_of
from profiling.graphs.text_graphs import RECORD_FILE, compare_text, pick
from profiling.graphs.text_graphs import in_single_precision as part_in_single_precision
from profiling.graphs.vision_chain import read_check, read_record
from profiling.machine.cache import cache_root
from profiling.models.model import Model
from profiling.models.text_parts import DECODER, ENCODER
from profiling.parts.artifacts import make_once, write_json
from profiling.parts.build_cost import BuildCost
from profiling.runtimes.runtime import Program, Runtime


def own_vision(model: Model, graph: Path, runtime: Runtime, *, precision: str) -> Path:
    """The path of a vision graph whose weights the runtime stored; made if it is not cached."""

    def make(folder: Path) -> None:
        with BuildCost() as cost:
            path = runtime.store(graph, folder, precision=precision)
            checked = compare_vision(model, runtime.open(path))
        # Quantized weights have no limit: their error depends on the values, and is in the record.
        record = {"quantized": precision, "checked": checked, "bytes": size_of(path)}
        write_check(folder, {**record, **_costs(cost, read_check(graph))})

    return _cached(graph.parent, runtime, precision, make) / f"{graph.stem}{runtime.suffix}"


def own_text(model: Model, graphs: Path, runtime: Runtime, *, precision: str) -> Path:
    """The folder of the text graphs whose weights the runtime stored."""

    def make(folder: Path) -> None:
        records = {}
        with BuildCost() as cost:
            for name, part in pick(model, (DECODER, ENCODER)).items():
                path = runtime.store(graphs / f"{name}.onnx", folder, precision=precision)
                with part_in_single_precision(part):
                    checked = compare_text(part.eval(), runtime.open(path))
                records[name] = {"checked": checked, "bytes": size_of(path)}
        costs = _costs(cost, read_record(graphs / RECORD_FILE))
        write_json(folder / RECORD_FILE, {"precision": precision, "parts": records, **costs})

    return _cached(graphs, runtime, precision, make)


def _costs(cost: BuildCost, exported: Mapping[str, Any]) -> dict[str, float]:
    """What storing took, and the export of the graphs before it."""
    return {
        "make_s": exported["make_s"] + cost.make_s,
        "make_peak_bytes": max(exported["make_peak_bytes"], cost.make_peak_bytes),
    }


def _cached(source: Path, runtime: Runtime, precision: str, make: Callable[[Path], None]) -> Path:
    """The folder of what is made of a cached folder, addressed by that and by what makes it."""
    facts: Mapping[str, Any] = {
        "source": source.name,
        "precision": precision,
        "code": digest_code(),
        "versions": {package: version(package) for package in runtime.stores_with},
    }
    text = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return make_once(cache_root() / "onnx" / name, make)


def compare_vision(model: Model, program: Program) -> list[dict[str, Any]]:
    """The error of a vision graph to the network, at sizes not used for the export."""
    rank, found = program.ranks["pixel_values"], []
    with torch.inference_mode(), in_single_precision(model):
        for seed, sizes in enumerate(check_sizes(model.family), start=1):
            inputs = noise(model.family, sizes, seed=seed, device=model.device)
            expected = model.family.layout.embed(model.network, inputs)
            feeds = {name: value.cpu() for name, value in feeds_of(model.family, inputs).items()}
            pixels = feeds["pixel_values"].float()
            feeds["pixel_values"] = pixels.flatten(0, pixels.dim() - rank)
            (made,) = program.run({name: feeds[name].numpy() for name in program.inputs})
            found.append({"sizes": sizes, **distance(torch.from_numpy(made), expected)})
    return found
