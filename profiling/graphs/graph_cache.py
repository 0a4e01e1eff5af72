"""Cached exports of vision parts, addressed by content and shared by runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiling import PACKAGE
from profiling.graphs.export import (
    MODEL_FILE,
    computing_dtype,
    export_vision,
    half_dtype,
)
from profiling.graphs.optimize import optimize_vision
from profiling.graphs.quantize import quantize_vision, weight_bits
from profiling.graphs.text_graphs import export_text, pick
from profiling.machine.cache import cache_root
from profiling.models.model import Model
from profiling.models.text_parts import DECODER, ENCODER
from profiling.parts.artifacts import make_once
from profiling.runtimes.onnxruntime import find_provider

_MAKERS = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript", "onnxslim")


def cached_vision(
    model: Model,
    *,
    layout: str,
    parts: int,
    simplify: bool,
    quantize: str | None,
    optimize: bool,
    provider: str | None,
) -> Path:
    """The path of a model's exported vision part; exports it if it is not cached."""
    facts = {
        "layout": [
            layout,
            str(half_dtype(model, layout)),
            str(computing_dtype(model, layout, provider)),
        ],
        "parts": parts if layout == "parts" else 1,
        "simplify": simplify,
        "quantize": [quantize, weight_bits(quantize)],
        "optimize": optimize,
        # It is checked with it, and rewritten for it.
        "provider": find_provider(provider, str(model.device)),
    }
    folder_name = address(model, [model.family.layout.tower(model.network)], facts)

    def make(folder: Path) -> None:
        path = export_vision(
            model, folder, layout=layout, parts=parts, simplify=simplify, provider=provider
        )
        if quantize is not None:
            quantize_vision(model, path, kind=quantize, provider=provider)
        if optimize:
            optimize_vision(model, path, provider=provider)

    return make_once(cache_root() / "onnx" / folder_name, make) / MODEL_FILE


def cached_text(model: Model, *, precision: str, provider: str | None) -> Path:
    """The folder with the decoder and, if there is one, the encoder; exports what is not cached."""
    facts = {
        "precision": [precision, weight_bits(precision)],
        "provider": find_provider(provider, str(model.device)),
        "parts": (DECODER, ENCODER),
    }
    parts = list(pick(model, (DECODER, ENCODER)).values())

    def make(folder: Path) -> None:
        export_text(model, folder, names=(DECODER, ENCODER), precision=precision, provider=provider)

    return make_once(cache_root() / "onnx" / address(model, parts, facts), make)


def address(model: Model, parts: Sequence[nn.Module], facts: Mapping[str, Any]) -> str:
    """The name of a graph's folder: of what it is made of, and of what makes it."""
    described = {
        **facts,
        "device": model.device.type,
        "config": model.family.config.to_dict(),
        "values": [_digest_values(part) for part in parts],
        "code": digest_code(),
        "versions": makers(),
    }
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def makers() -> dict[str, str]:
    """The versions of the packages that make graphs."""
    return {name: version(name) for name in _MAKERS}


def _digest_values(part: nn.Module) -> str:
    digest = hashlib.blake2b()
    for name, value in part.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


@cache
def digest_code() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(
            path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    """The source files that determine a graph, and how a runtime stores it."""
    yield from sorted((PACKAGE / "graphs").glob("*.py"))
    yield from sorted((PACKAGE / "runtimes").glob("*.py"))
    yield from sorted((PACKAGE / "models").rglob("*.py"))
