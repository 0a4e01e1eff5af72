"""The real Qwen2.5-VL-3B vision encoder, with random values, in every layout."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.graphs.check import distance
from profiling.graphs.export import export_vision
from profiling.graphs.feeds import feeds_of, noise
from profiling.graphs.vision_chain import Chain, files_of
from profiling.models.loading import find_family
from profiling.models.model import Model
from profiling.models.weights import CHECKPOINTS
from profiling.runtimes.providers import CPU_PROVIDER

TWO_GIB = 2**31
CPU_DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Model:
    """The real vision encoder before the embedded language model, which is not asked anything."""
    kind = find_family("qwen25vl")
    of = kind.layout.network_class.config_class.from_pretrained
    config = of(CHECKPOINTS / "tiny" / "qwen25vl")
    config.vision_config = of(CHECKPOINTS / "public" / "qwen25vl").vision_config
    family = kind.load(
        config=config,
        folder=CHECKPOINTS / "tiny" / "qwen25vl",
        processor_options={"local_files_only": True},
    )
    torch.manual_seed(0)
    network: Any = kind.layout.network_class._from_config(
        copy.deepcopy(config), dtype=torch.float32
    )
    network.eval().requires_grad_(False)
    return Model(
        network=network,
        family=family,
        device=CPU_DEVICE,
        dtype=torch.float32,
        stored_values=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "limit"), [("single", 1e-5), ("parts", 1e-5), ("half", 2e-2)])
def test_exports_loads_and_agrees(layout: str, limit: float, model: Model, tmp_path: Path) -> None:
    path = export_vision(model, tmp_path, layout=layout, parts=2, simplify=False, provider=None)
    inputs = noise(model.family, [(280, 196), (112, 84)], seed=3, device=CPU_DEVICE)
    with torch.inference_mode():
        expected = model.family.layout.embed(model.network, inputs)
    files = files_of(path)
    chain = Chain(
        files,
        threads=2,
        provider=CPU_PROVIDER,
        provider_options={},
        device=CPU_DEVICE,
        optimized=False,
    )
    found = chain.run(feeds_of(model.family, inputs))
    assert distance(found.float(), expected)["relative_l2"] < limit
    if layout == "parts":
        stored = [file.with_name(file.name + ".data").stat().st_size for file in files]
        assert max(stored) < TWO_GIB < sum(stored)
