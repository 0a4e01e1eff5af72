"""A picture that was seen before is not looked at again, and the answers stay what they were."""

from __future__ import annotations

import pytest
import torch

from profiling.engines.transformers.optimizations.optimization import build_model
from profiling.engines.transformers.picture_cache import PictureCache
from tests.composing import compose_point
from tests.tiny_models import FAMILIES, answer, ask, load, make_picture


def rows(value: float, count: int = 10) -> torch.Tensor:
    return torch.full((count, 4), value)


def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    cache = PictureCache(max_bytes=2 * rows(0).nbytes)
    for key in (b"a", b"b"):
        cache.keep(key, rows(1))
    assert cache.find(b"a") is not None
    cache.keep(b"c", rows(2))
    assert cache.find(b"b") is None
    assert cache.find(b"a") is not None
    assert cache.num_bytes == cache.max_bytes
    cache.keep(b"d", rows(3, count=21))
    assert cache.find(b"d") is None
    assert (cache.hits, cache.lookups) == (2, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_question_finds_the_picture(family: str) -> None:
    plain = load(family)
    model = build_model(compose_point(f"model={family}", "optimization=vision_cache"))
    cache = model.picture_cache
    assert cache is not None
    first, second = make_picture(200, 100), make_picture(90, 140, seed=1)
    asked = [
        [ask(model, "what is it?", first)],
        [ask(model, "who is here now", first)],
        [ask(model, "what is it?", second)],
        [ask(model, "why", second), ask(model, "how many are there", first)],
    ]
    for batch in asked:
        assert answer(model, batch, 120) == answer(plain, batch, 120)
    # A family whose pictures cannot be told apart in a call looks up a batch as one.
    assert (cache.hits, cache.lookups) in [(3, 5), (1, 4)]
    model.begin_pass()
    assert (cache.hits, cache.lookups, cache.num_bytes) == (0, 0, 0)


def test_all_values_are_still_counted() -> None:
    plain = load("llava")
    model = build_model(compose_point("model=llava", "optimization=vision_cache"))
    assert model.parameter_bytes() == plain.parameter_bytes()
