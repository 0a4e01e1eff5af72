"""A picture that was seen before is not looked at again, and the answers stay what they were."""

from __future__ import annotations

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.optimizations.vision_cache import VisionCache
from profiling.engines.transformers.picture_cache import PictureCache
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask, build, load, make_picture


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


def build_with_cache(family: str) -> tuple[TransformersEngine, PictureCache]:
    engine = build(compose_point(f"model={family}", "optimization=vision_cache"))
    (only,) = engine.stack
    assert isinstance(only, VisionCache)
    return engine, only.cache


@pytest.mark.parametrize("family", slow_except(FAMILIES, "qwen25vl", "blip2_t5"))
def test_a_second_question_finds_the_picture(family: str) -> None:
    plain = load(family)
    engine, cache = build_with_cache(family)
    first, second = make_picture(200, 100), make_picture(90, 140, seed=1)
    asked = [
        [ask(engine, "what is it?", first)],
        [ask(engine, "who is here now", first)],
        [ask(engine, "what is it?", second)],
        [ask(engine, "why", second), ask(engine, "how many are there", first)],
    ]
    for batch in asked:
        assert answer(engine, batch, 120) == answer(plain, batch, 120)
    # A family whose pictures cannot be told apart in a call looks up a batch as one.
    assert (cache.hits, cache.lookups) in [(3, 5), (1, 4)]
    engine.begin_pass()
    assert (cache.hits, cache.lookups, cache.num_bytes) == (0, 0, 0)


def test_all_values_are_still_counted() -> None:
    engine, _ = build_with_cache("llava")
    assert engine.footprint().model_bytes == load("llava").footprint().model_bytes
