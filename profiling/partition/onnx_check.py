"""Whether an exported vision graph does what the network does, at sizes it was not exported at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

from profiling.models.model import Model
from profiling.partition.artifacts import write_json
from profiling.partition.onnx_feeds import check_sizes, feeds_of, noise
from profiling.partition.onnx_session import CHECK_FILE, CPU, CUDA, Chain

# The largest relative L2 distance from the network in single precision. Rounding to half precision
# at every step adds up; a wrong graph is off by tenths and more.
LIMITS = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}


class ExportFailed(RuntimeError):
    """An exported graph is not what the network is; it was not kept."""


def check_export(
    model: Model, files: Sequence[Path], *, layout: str, dtype: torch.dtype
) -> dict[str, Any]:
    """The record of the check; raises where a graph is malformed or too far off."""
    for path in files:
        _check_form(path)
    parts = files[:-1]
    chains = [[files[-1]], *([parts] if parts else [])]
    results = [result for chain in chains for result in compare(model, chain, dtype=dtype)]
    limit = LIMITS[dtype]
    wrong = next((result for result in results if not result["relative_l2"] <= limit), None)
    if wrong:
        raise ExportFailed(
            f"the exported vision part is {wrong['relative_l2']:.2g} (relative L2) away from the"
            f" network at {wrong['sizes']}, allowed is {limit:g}: the file was deleted"
        )
    return {
        "layout": layout,
        "dtype": str(dtype).removeprefix("torch."),
        "parts": [path.name for path in parts],
        "limit_relative_l2": limit,
        "checked": results,
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _check_form(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as problem:
        line = str(problem).splitlines()[0]
        raise ExportFailed(f"{path.name} is no valid graph and was deleted: {line}") from None


def compare(model: Model, files: Sequence[Path], *, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """How far a chain of files is from the network, at each of the sizes to check."""
    on_gpu = model.device.type == "cuda" and CUDA in onnxruntime.get_available_providers()
    chain = Chain(
        files,
        threads=torch.get_num_threads(),
        provider=CUDA if on_gpu else CPU,
        provider_options={},
        device=model.device,
    )
    for seed, sizes in enumerate(check_sizes(model.family), start=1):
        inputs = noise(model.family, sizes, seed=seed, device=model.device)
        # The network is to see what the graph sees.
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype).float()
        with torch.inference_mode():
            expected = model.family.embed(model.network, inputs)
        found = chain.run(feeds_of(model.family, inputs))
        yield {"sizes": sizes, "files": len(files), **distance(found, expected)}


def distance(found: Tensor, expected: Tensor) -> dict[str, float]:
    if found.shape != expected.shape:
        raise ExportFailed(
            f"the exported vision part gives {list(found.shape)} where the network gives"
            f" {list(expected.shape)}: the file was deleted"
        )
    one, other = found.cpu().double().flatten(), expected.cpu().double().flatten()
    return {
        "max_abs": float((one - other).abs().max()),
        "relative_l2": float((one - other).norm() / other.norm()),
        "cosine": float(torch.nn.functional.cosine_similarity(one, other, dim=0)),
    }


def write_check(folder: Path, record: Mapping[str, Any]) -> None:
    write_json(folder / CHECK_FILE, record)
