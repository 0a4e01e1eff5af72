"""Where the time goes on networks of a size at which the library's set-up hardly weighs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.workload import Workload
from profiling.models import weights
from profiling.models.loading import LoadPlan, load_model
from profiling.samples.samples import full_batches
from tests.composing import compose_point
from tests.tiny_models import FAMILIES, take_samples, wrap

pytestmark = pytest.mark.slow

# Eight layers of width 512 in every part, whatever the part calls them.
MID_SIZE: dict[str, Any] = {
    "hidden_size": 512,
    "d_model": 512,
    "word_embed_proj_dim": 512,
    "out_hidden_size": 512,
    "encoder_hidden_size": 512,
    "intermediate_size": 1536,
    "ffn_dim": 2048,
    "d_ff": 1024,
    "num_hidden_layers": 8,
    "depth": 8,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_heads": 8,
    "d_kv": 64,
    "head_dim": 64,
    "vocab_size": 8192,
    "fullatt_block_indexes": [3, 7],
    "mrope_section": [8, 12, 12],
}


def resize(config: dict[str, Any]) -> dict[str, Any]:
    sized = {
        key: resize(value) if isinstance(value, dict) else MID_SIZE.get(key, value)
        for key, value in config.items()
    }
    if "layer_types" in sized:
        sized["layer_types"] = sized["layer_types"][: MID_SIZE["num_hidden_layers"]]
    return sized


@pytest.fixture(scope="module", params=FAMILIES)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TransformersEngine]:
    family, root = str(request.param), tmp_path_factory.mktemp("checkpoints")
    (root / "tiny").symlink_to(weights.CHECKPOINTS / "tiny")
    public = weights.CHECKPOINTS / "public" / family / "config.json"
    small: Path = root / "public" / family / "config.json"
    small.parent.mkdir(parents=True)
    small.write_text(json.dumps(resize(json.loads(public.read_text(encoding="utf-8")))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "CHECKPOINTS", root)
        point = compose_point(f"model={family}", "weights=random")
        yield wrap(load_model(point, LoadPlan(dtype=torch.float32)))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_named_phases_cover_nineteen_twentieths_of_a_batch(
    engine: TransformersEngine, batch_size: int
) -> None:
    torch.set_num_threads(1)
    workload = Workload(
        engine=engine,
        batches=full_batches(take_samples(batch_size), batch_size),
        img_size=engine.family.processing.snap_side(224),
        prompt_len=None,
        max_new_tokens=20,
        preload=True,
    )
    timings = [workload.run_timed(0) for _ in range(4)]
    covered = max(1 - t.phases_s["other"] / t.latency_s for t in timings)
    assert covered >= 0.95
