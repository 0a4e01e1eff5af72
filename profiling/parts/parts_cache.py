"""Cached folders of parts, addressed by content and shared by runs."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from profiling.machine.cache import cache_root
from profiling.models.family import Family
from profiling.models.weights import WeightsSource
from profiling.parts.artifacts import make_once
from profiling.parts.build_cost import BuildCost
from profiling.parts.cutting import cut, cut_network
from profiling.samples.hub import explained

# Increase it when the same content would be written differently.
_FORMAT = 1


def parts_of(
    source: WeightsSource, *, family: Family, model: str, embedding: bool, network: Any
) -> Path:
    """The parts of a checkpoint, or of a network that exists in memory only."""
    content = _digest(source, family, embedding, network)
    described: dict[str, Any] = {
        "family": family,
        "model": model,
        "digest": content,
        "embedding": embedding,
    }

    def make(folder: Path) -> None:
        whole = None if network is not None else local_folder(source)
        with BuildCost() as cost:
            if whole is not None:
                cut(whole, folder, **described)
            else:
                cut_network(network, folder, processor=Path(source.processor), **described)
        cost.write(folder)

    return make_once(cache_root() / "parts" / f"{model}-{content}", make)


def digest_of(source: WeightsSource, seed: int, dtype: torch.dtype) -> str:
    """A digest of a source's weights; of random ones, a digest of seed and dtype."""
    made = f"-{seed}-{dtype}" if source.values == "random" else ""
    return hashlib.sha256((source.digest + made).encode()).hexdigest()


def _digest(source: WeightsSource, family: Family, embedding: bool, network: Any) -> str:
    facts = [_FORMAT, source.digest, embedding, family.config.to_dict()]
    if network is not None:
        facts.append([sorted(_sums(network).items()), str(network.dtype)])
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sums(network: Any) -> dict[str, float]:
    """Sums of random weights, which differ by seed, device and generator."""
    return {name: float(value.detach().sum()) for name, value in network.named_parameters()}


def local_folder(source: WeightsSource) -> Path:
    """The checkpoint as a local folder, downloaded if it is on the hub."""
    if source.options.get("local_files_only"):
        return Path(source.config)
    hub = import_module("huggingface_hub")
    wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    revision = source.options.get("revision")
    with explained("model", source.config, revision):
        return Path(hub.snapshot_download(source.config, revision=revision, allow_patterns=wanted))
