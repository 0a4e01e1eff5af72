"""What one family learned to see arrives in another one, every value at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from profiling.errors import ConfigError
from training.checkpoint import write_checkpoint
from training.families import find_family
from training.families.positions import wave_positions
from training.towers import copy_matching


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    family, made = find_family("blip2_t5"), tmp_path_factory.mktemp("source")
    write_checkpoint(made, family, family.build_network())
    return made


@pytest.fixture(scope="module")
def source(folder: Path) -> PreTrainedModel:
    network = find_family("blip2_t5").build_network()
    copy_matching(network, folder)
    return network


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(2)
    return find_family(name).build_network()


def test_a_clip_tower_computes_what_the_blip_2_tower_does(
    folder: Path, source: PreTrainedModel
) -> None:
    network = build("llava")
    copy_matching(network, folder)
    tower, source_tower = network.model.vision_tower, source.vision_model
    # The one parameter that a BLIP-2 tower does not have.
    tower.pre_layrnorm = torch.nn.Identity()
    pixels = torch.randn(2, 3, 112, 112)
    with torch.inference_mode():
        seen = tower(pixels, output_hidden_states=True).hidden_states[-2]
        wanted = source_tower.encoder(
            inputs_embeds=source_tower.embeddings(pixels)
        ).last_hidden_state
    # The two activations, quick and exact, differ a little.
    assert (seen - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("name", ["blip2_opt", "blip2_t5"])
def test_a_blip_2_takes_all_that_sees_and_no_words(
    folder: Path, source: PreTrainedModel, name: str
) -> None:
    network = build(name)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy_matching(network, folder)
    wanted = source.state_dict()
    for name, value in network.state_dict().items():
        expected = before[name] if "language_model" in name else wanted[name]
        assert torch.equal(value, expected), name


def test_what_has_nothing_to_give_is_refused(tmp_path: Path) -> None:
    save_file({"unknown": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"--start-from=.*no tensor"):
        copy_matching(build("llava"), tmp_path)


def test_places_are_told_apart_and_neighbours_are_alike() -> None:
    places = wave_positions((4, 6), 64)
    products = places @ places.T
    assert (products.argmax(1) == torch.arange(24)).all()
    assert products[0, 1] > products[0, 5]
    assert products[0, 6] > products[0, 18]
