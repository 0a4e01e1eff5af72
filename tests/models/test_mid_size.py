"""The shipped configurations between the miniatures and the public checkpoints."""

from __future__ import annotations

import pytest

from profiling.costs.twin import Twin
from profiling.models.loading import load_family
from profiling.models.weights import describe_weights, locate
from tests.composing import compose_point
from tests.tiny_models import FAMILIES

CHOSEN = ("weights=random", "model.checkpoint=mid", "model.dtype=float32")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_language_model_has_about_200_million_parameters(name: str) -> None:
    point = compose_point(f"model={name}", *CHOSEN)
    source = locate(point)
    family = load_family(point, source)
    network = Twin(family=family, attention="sdpa").network
    parts = family.layout.parts
    text = [parts.head, *filter(None, [parts.text_encoder]), family.layout.decoder_stack]
    paths = tuple(f"{path}." for path in text)
    table = network.get_input_embeddings().weight
    own = {id(value): value for key, value in network.named_parameters() if key.startswith(paths)}
    own[id(table)] = table
    assert 190e6 < sum(value.numel() for value in own.values()) < 230e6
    assert source.values == "random"
    assert f"{name} at mid size" in describe_weights(point)


def test_a_size_is_a_checkpoint_of_its_own() -> None:
    mid, full = (locate(compose_point(*chosen)) for chosen in (CHOSEN, CHOSEN[:1]))
    assert mid.digest != full.digest
