"""Precisions: the weights have the dtype that was asked for, and the answers stay near."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.optimizations.optimization import read_stack
from profiling.models.weights import CHECKPOINTS
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    answer,
    ask,
    build,
    encode,
    first_logits,
    load,
    make_picture,
)

DTYPES = {
    "baseline": torch.float32,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
SIDE = 120


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(
        product(FAMILIES, DTYPES),
        ("llava", "baseline"),
        ("fuyu", "fp32"),
        ("blip2_opt", "fp16"),
        ("blip2_t5", "bf16"),
    ),
)
def test_the_weights_have_the_dtype_that_was_asked_for(family: str, name: str) -> None:
    model = load(family, f"optimization={name}").model
    assert model.dtype == DTYPES[name]
    counts: dict[torch.dtype, int] = {}
    for parameter in model.network.parameters():
        counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
        assert not parameter.requires_grad
    # Where the library insists on single precision for a part, it is the smaller part.
    assert counts[DTYPES[name]] > sum(counts.values()) / 2
    if name != "fp16":
        assert counts.keys() == {DTYPES[name]}
    assert not model.network.training


TOLERANCES = {"fp32": 0.0, "fp16": 0.02, "bf16": 0.1}


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(
        product(FAMILIES, TOLERANCES),
        ("fuyu", "fp32"),
        ("blip2_opt", "fp16"),
        ("llava", "fp16"),
        ("blip2_t5", "bf16"),
        ("qwen25vl", "bf16"),
    ),
)
def test_logits_stay_near_those_of_single_precision(family: str, name: str) -> None:
    plain, reduced = load(family), load(family, f"optimization={name}")
    one, other = (
        first_logits(m, encode(m, [ask(m, "what?", make_picture(90, 120))], SIDE), SIDE)
        for m in (plain, reduced)
    )
    assert float((one - other).abs().max()) <= TOLERANCES[name] * float(one.abs().max())


@pytest.mark.parametrize(
    ("family", "name"),
    slow_except(product(FAMILIES, ("fp16", "bf16")), ("llava", "fp16"), ("qwen25vl", "bf16")),
)
def test_reduced_precision_answers_batches(family: str, name: str) -> None:
    model = load(family, f"optimization={name}")
    asked = [ask(model, "what is it?", make_picture(90, 60 + 60 * i, seed=i)) for i in range(3)]
    assert [len(row) for row in answer(model, asked, SIDE, 4)] == [4, 4, 4]


@pytest.mark.parametrize("family", slow_except(FAMILIES, "fuyu"))
def test_the_baseline_takes_the_dtype_that_the_checkpoint_names(
    family: str, tmp_path: Path
) -> None:
    folder = tmp_path / family
    shutil.copytree(CHECKPOINTS / "tiny" / family, folder)
    load(family, "optimization=bf16").network.save_pretrained(folder)
    overrides = (f"model={family}", "weights=pretrained", f"model.checkpoint={folder}")
    assert build(compose_point(*overrides)).model.dtype == torch.bfloat16
    assert build(compose_point(*overrides, "optimization=fp32")).model.dtype == torch.float32


def test_a_stack_is_built_in_its_order() -> None:
    point = compose_point("optimization=bf16")
    (only,) = read_stack(point.optimization_settings)
    assert type(only).__name__ == "Bf16"
    assert (only.kind, only.order) == ("dtype", 0)
    assert build(point).model.dtype == torch.bfloat16
