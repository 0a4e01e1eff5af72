"""Compares an exported vision graph with the network, at sizes not used for the export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from profiling.graphs.feeds import check_sizes, feeds_of, noise
from profiling.graphs.layouts import delete_file, size_of
from profiling.graphs.vision_chain import CHECK_FILE, Chain, digest_graph, read_check
from profiling.models.model import Model
from profiling.parts.artifacts import write_json
from profiling.parts.build_cost import BuildCost
from profiling.runtimes.onnxruntime import find_provider

# The largest relative L2 error to the network in single precision. Rounding to half precision at
# every step accumulates; a wrong graph is off by 0.1 and more.
LIMITS = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
# For computation in bf16, with its 8-bit significand.
_LIMIT_BF16 = 1e-1


class ExportFailed(RuntimeError):
    """An exported graph does not match the network; it was deleted."""


def check_export(
    model: Model,
    files: Sequence[Path],
    *,
    layout: str,
    stored: torch.dtype,
    computed: torch.dtype,
    provider: str | None,
) -> dict[str, Any]:
    """The record of the check; raises if a graph is invalid or its error too large."""
    for path in files:
        require_form(path)
    parts = files[:-1]
    chains = [[files[-1]], *([parts] if parts else [])]
    results = [
        result
        for chain in chains
        for result in compare(model, chain, dtype=stored, provider=provider, optimized=False)
    ]
    limit = _LIMIT_BF16 if computed == torch.bfloat16 else LIMITS[stored]
    _require_near(results, limit)
    return {
        "layout": layout,
        "dtype": str(stored).removeprefix("torch."),
        "computes_in": str(computed).removeprefix("torch."),
        "parts": [path.name for path in parts],
        "bytes": sum(map(size_of, files)),
        "limit_relative_l2": limit,
        "checked": results,
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _require_near(results: Sequence[Mapping[str, Any]], limit: float | None) -> None:
    for one in results:
        if limit is not None and not one["relative_l2"] <= limit:
            raise ExportFailed(
                f"the exported vision part has a relative L2 error of {one['relative_l2']:.2g} to"
                f" the network at {one['sizes']}, allowed is {limit:g}: the file was deleted"
            )


@contextmanager
def rewriting(model: Model, path: Path, *, provider: str | None, **facts: object) -> Iterator[None]:
    """Rewrite a checked graph in place; add facts, cost and new errors to its record.

    A graph that fails or no longer matches the network is deleted.
    """
    before = read_check(path)
    was = {name: before[name] for name in ("checked", "bytes")}
    record = {**before, **facts, "before": [*before.get("before", []), was]}
    try:
        with BuildCost() as cost:
            yield
            require_form(path)
            record["checked"] = compare(
                model,
                [path],
                dtype=torch.float32,
                provider=provider,
                optimized="optimized" in record,
            )
        _require_near(record["checked"], record["limit_relative_l2"])
    except BaseException:
        delete_file(path)
        raise
    record["bytes"] = size_of(path)
    record["make_s"] += cost.make_s
    record["make_peak_bytes"] = max(record["make_peak_bytes"], cost.make_peak_bytes)
    write_check(path.parent, record)


def require_form(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as problem:
        line = str(problem).splitlines()[0]
        raise ExportFailed(f"{path.name} is not a valid graph and was deleted: {line}") from None


@contextmanager
def in_single_precision(model: Model) -> Iterator[None]:
    """Convert the vision weights to fp32 in place, exactly, and restore them afterwards."""
    values = [
        parameter
        for path in (*model.family.layout.vision_paths, *model.family.layout.vision_parameters)
        for parameter in _parameters(model.network, path)
    ]
    before = [(value, value.data) for value in values if value.dtype != torch.float32]
    for value, data in before:
        value.data = data.float()
    try:
        yield
    finally:
        for value, data in before:
            value.data = data


def _parameters(network: nn.Module, path: str) -> Iterator[nn.Parameter]:
    parent, _, name = path.rpartition(".")
    found: Any = getattr(network.get_submodule(parent), name)
    return iter([found]) if isinstance(found, nn.Parameter) else found.parameters()


def compare(
    model: Model,
    files: Sequence[Path],
    *,
    dtype: torch.dtype,
    provider: str | None,
    optimized: bool,
) -> list[dict[str, Any]]:
    """The error of a chain of files to the network at each size to check."""
    chain = Chain(
        files,
        threads=torch.get_num_threads(),
        provider=find_provider(provider, str(model.device)),
        provider_options={},
        device=model.device,
        optimized=optimized,
    )
    found = []
    with torch.inference_mode(), in_single_precision(model):
        for seed, sizes in enumerate(check_sizes(model.family), start=1):
            inputs = noise(model.family, sizes, seed=seed, device=model.device)
            # The network gets the same rounded input as the graph.
            inputs["pixel_values"] = inputs["pixel_values"].to(dtype).float()
            expected = model.family.layout.embed(model.network, inputs)
            away = distance(chain.run(feeds_of(model.family, inputs)), expected)
            found.append({"sizes": sizes, "files": len(files), **away})
    return found


def distance(found: Tensor, expected: Tensor) -> dict[str, float]:
    if found.shape != expected.shape:
        raise ExportFailed(
            f"the exported part returns {list(found.shape)}, the network"
            f" {list(expected.shape)}: the file was deleted"
        )
    one, other = found.cpu().double().flatten(), expected.cpu().double().flatten()
    return {
        "max_abs": float((one - other).abs().max()),
        # All zeros are right if there is no difference to them.
        "relative_l2": float((one - other).norm() / other.norm().clamp(min=1e-300)),
        "cosine": float(torch.nn.functional.cosine_similarity(one, other, dim=0)),
    }


def write_check(folder: Path, record: Mapping[str, Any]) -> None:
    write_json(folder / CHECK_FILE, {**record, "sha256": digest_graph(folder)})
