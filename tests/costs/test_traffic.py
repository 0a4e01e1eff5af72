"""Bytes by phase: known answers from made-up costs, and the weights of a real double."""

from __future__ import annotations

import pytest

from profiling.costs.traffic import moved_bytes, weight_sizes
from profiling.costs.twin import CacheShape, Costs, Tally
from profiling.models.geometry import Geometry
from tests.tiny_models import load

SIZES = {"eye": 100, "bridge": 10, "encoder": 30, "keys": 7, "mouth": 1000}


def tally(*weights: str) -> Tally:
    return Tally(flops=1, weights=frozenset(weights), uncounted=frozenset())


def costs(*, new_tokens: int, encoded_elements: int = 0, bridge: bool = True) -> Costs:
    steps = {step: tally("mouth") for step in {1, new_tokens - 1} if new_tokens > 1}
    return Costs(
        geometry=Geometry(sizes=((1, 1),) * 2, prompt_tokens=5, new_tokens=new_tokens),
        vision=tally("eye"),
        projector=tally("bridge") if bridge else None,
        prefill=tally("encoder", "keys", "mouth"),
        steps=steps,
        cache=CacheShape(elements=3, encoded_elements=encoded_elements),
    )


def test_weights_are_read_once_a_forward_and_the_cache_is_filled() -> None:
    moved = moved_bytes(costs(new_tokens=4), SIZES, cache_element_bytes=2)
    assert moved["vision"] == 100
    assert moved["projector"] == 10
    assert moved["prefill"] == 30 + 7 + 1000 + 2 * (5 * 3) * 2
    # Three steps: the cache holds 5, 6 and 7 tokens, and each adds one.
    assert moved["decode"] == 3 * 1000 + 2 * (6 + 7 + 8) * 3 * 2


def test_what_the_encoder_read_is_read_again_at_every_step() -> None:
    moved = moved_bytes(costs(new_tokens=3, encoded_elements=4), SIZES, cache_element_bytes=2)
    # The prefill leaves the start token in the decoder's cache.
    assert moved["prefill"] == 30 + 7 + 1000 + 2 * (3 + 5 * 4) * 2
    assert moved["decode"] == 2 * 1000 + 2 * ((2 + 3) * 3 + 2 * 5 * 4) * 2


def test_a_phase_that_is_not_there_moves_nothing() -> None:
    moved = moved_bytes(costs(new_tokens=1, bridge=False), SIZES, cache_element_bytes=2)
    assert moved["projector"] is None
    assert moved["decode"] is None


def test_weights_of_unknown_size_make_a_phase_unknown() -> None:
    known = {name: size for name, size in SIZES.items() if name != "eye"}
    moved = moved_bytes(costs(new_tokens=2), known, cache_element_bytes=2)
    assert moved["vision"] is None
    assert moved["prefill"] is not None


@pytest.mark.parametrize("name", ["llava", "qwen25vl"])
def test_sizes_are_those_of_the_stored_weights(name: str) -> None:
    network = load(name).network
    parameters = {id(p): p.numel() * p.element_size() for p in network.parameters()}
    assert sum(weight_sizes(network).values()) == sum(parameters.values())
