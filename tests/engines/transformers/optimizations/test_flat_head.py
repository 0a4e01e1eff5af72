"""The head's input is dense: the same values and tokens, and no copy of the head's weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.optimizations.flat_head import make_dense
from profiling.graphs.check import distance
from tests.marking import slow_except
from tests.processors import copies_weights_in_16_bits
from tests.tiny_models import FAMILIES, answer, ask_unevenly, encode, first_logits, load

SIDE = 120


def head_inputs(engine: TransformersEngine, asked: list[Any]) -> list[torch.Tensor]:
    """What the head is called with in a generation, after every hook."""
    (head,) = engine.loaded.parts()["head"]
    seen: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    try:
        answer(engine, asked, SIDE)
    finally:
        handle.remove()
    return seen


def copied_sizes(hidden: torch.Tensor, weight: torch.Tensor) -> list[int]:
    """How many values each copy during the head's product copies."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        torch.nn.functional.linear(hidden, weight)
    shapes = [one.input_shapes[0] for one in recorded.events() if one.name == "aten::copy_"]
    return [torch.Size(shape).numel() for shape in shapes]


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_t5", "llava"))
def test_the_answers_are_the_plain_models(family: str) -> None:
    plain = load(family, "optimization=fp32")
    flat = load(family, "optimization=[fp32,flat_head]")
    for count in (1, 4):
        asked = ask_unevenly(plain, count)
        assert answer(flat, asked, SIDE) == answer(plain, asked, SIDE)


def test_in_16_bits_the_logits_differ_by_rounding() -> None:
    plain = load("qwen25vl", "optimization=bf16")
    flat = load("qwen25vl", "optimization=[bf16,flat_head]")
    inputs = encode(plain, ask_unevenly(plain, 4), SIDE)
    right, found = (first_logits(one, inputs, SIDE) for one in (plain, flat))
    assert distance(found, right)["relative_l2"] < 0.01


def test_every_input_of_the_head_is_dense() -> None:
    plain, flat = load("qwen25vl"), load("qwen25vl", "optimization=flat_head")
    asked = ask_unevenly(plain, 1)
    strides = [one.stride() for one in head_inputs(flat, asked)]
    assert strides == [torch.empty(one.shape).stride() for one in head_inputs(flat, asked)]
    # What the optimization rests on: the plain head gets a slice of the whole prompt.
    assert strides != [one.stride() for one in head_inputs(plain, asked)]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_weight_is_not_copied(batch: int) -> None:
    weight = torch.randn(500, 32, dtype=torch.bfloat16)
    hidden = torch.randn(batch, 7, 32, dtype=torch.bfloat16)[:, -1:]
    with torch.inference_mode():
        if copies_weights_in_16_bits():
            assert max(copied_sizes(hidden, weight)) >= weight.numel()
        assert max(copied_sizes(make_dense(hidden), weight), default=0) < weight.numel()
    assert torch.equal(make_dense(hidden), hidden)
