"""Every family in every layout, at sizes that no graph was taken at, beside the plain model."""

from __future__ import annotations

from functools import cache

import pytest
from torch import Tensor

from profiling.graphs.check import distance
from profiling.graphs.feeds import export_sizes
from tests.tiny_models import FAMILIES, answer, ask_unevenly, encode, first_logits, load

# Relative L2 error of the first logits. Where only the order of sums differs, so do no answers.
LIMITS = {"single": 1e-5, "parts": 1e-5, "half": 5e-3}
SIDES = (140, 196, 252)
LENGTH = 4


@cache
def ask_plain(family: str, side: int, count: int) -> tuple[Tensor, list[list[int]]]:
    plain = load(family, "optimization=fp32")
    asked = ask_unevenly(plain, count)
    logits = first_logits(plain, encode(plain, asked, side), side)
    return logits, answer(plain, asked, side, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("layout", LIMITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_answers_at_every_size(
    family: str, layout: str, side: int, count: int
) -> None:
    setting = f"optimization.onnx_vision.layout={layout}"
    exported = load(family, "optimization=[fp32,onnx_vision]", setting)
    asked = ask_unevenly(exported, count)
    inputs = encode(exported, asked, side)
    seen = exported.family.processing.picture_sizes(inputs)
    assert not set(seen) & set(export_sizes(exported.family))
    assert len(set(seen)) == (count if exported.family.processing.keeps_aspect_ratio else 1)
    right, answers = ask_plain(family, side, count)
    found = first_logits(exported, inputs, side)
    assert distance(found, right)["relative_l2"] < LIMITS[layout]
    if layout != "half":
        assert answer(exported, asked, side, LENGTH) == answers
