"""Parts on their own: together they answer exactly as the model that they were cut from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from safetensors.torch import load_file

from profiling.models.family import Family
from profiling.models.loading import find_family, read_config
from profiling.models.model import Model
from profiling.parts.assembling import answer_from, embed, load_language, load_vision
from profiling.parts.cutting import copy_values, cut, file_of, list_values, read_manifest
from profiling.parts.reduced import PartMissing, list_unmade
from tests.composing import compose_point
from tests.graphs.stressed import make_stressed
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, ask_unevenly, build, first_logits

CPU = torch.device("cpu")
LENGTH = 12
# In the fast suite `test_cutting` cuts the others.
SOME = slow_except(FAMILIES, "blip2_t5", "llava")


@cache
def stressed(family: str) -> tuple[Model, Model, Model, Path]:
    """The whole model, its vision part and its language part."""
    home = Path(mkdtemp())
    source = make_stressed(family, home / "whole", shards=2)
    plain = build(
        compose_point(
            f"model={family}",
            "weights=pretrained",
            f"model.checkpoint={source}",
            "optimization=fp32",
        )
    ).model
    folder = home / "parts"
    cut(source, folder, family=plain.family, model=family, digest="d", embedding=True)
    known = read_family(folder)
    given = {"family": known, "dtype": torch.float32, "device": CPU}
    return plain, load_vision(folder, **given), load_language(folder, **given), folder


def read_family(folder: Path) -> Family:
    """The family as a folder of parts describes it, with the processor that was cut with it."""
    kind = find_family(read_manifest(folder)["model"])
    options = {"local_files_only": True}
    config = read_config(kind.layout.network_class.config_class, str(folder), options)
    return kind.load(config=config, folder=folder, processor_options=options)


def make_batch(model: Model, count: int, side: int) -> dict[str, torch.Tensor]:
    return model.encode(ask_unevenly(model, count), side)


@pytest.mark.parametrize(("count", "side"), slow_except([(1, 112), (4, 150)], (4, 150)))
@pytest.mark.parametrize("family", SOME)
def test_parts_answer_as_the_whole_does(family: str, count: int, side: int) -> None:
    check_answers(family, count, side)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("side", [84, 224, 392])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_answer_as_the_whole_does_at_every_size(family: str, count: int, side: int) -> None:
    check_answers(family, count, side)


def check_answers(family: str, count: int, side: int) -> None:
    plain, vision, language, _ = stressed(family)
    inputs = make_batch(plain, count, side)
    placed = plain.place(inputs)
    whole = plain.generate(placed, side=side, length=LENGTH, exact=True)
    embeddings = embed(vision, inputs)
    assert len(embeddings) == plain.family.processing.count_visual_tokens(inputs["input_ids"]).sum()
    cut_up = answer_from(language, inputs, embeddings, side=side, length=LENGTH, exact=True)
    assert torch.equal(whole, cut_up)
    given = plain.family.layout.with_embeddings(placed, embeddings)
    # Where values lie in memory decides which kernels multiply them, down to the last bit.
    expected = first_logits(plain, placed, side)
    torch.testing.assert_close(first_logits(language, given, side), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", SOME)
def test_the_answers_depend_on_the_embeddings(family: str) -> None:
    plain, vision, language, _ = stressed(family)
    inputs = make_batch(plain, 1, 112)
    embeddings = embed(vision, inputs)
    seen, unseen = (
        first_logits(language, plain.family.layout.with_embeddings(plain.place(inputs), given), 112)
        for given in (embeddings, embeddings.flip(0))
    )
    assert not torch.allclose(seen, unseen, rtol=1e-3)


@pytest.mark.parametrize("family", SOME)
def test_neither_part_holds_the_other(family: str) -> None:
    plain, vision, language, _ = stressed(family)
    sizes = [sum(p.numel() for p in m.network.parameters()) for m in (plain, vision, language)]
    assert sizes[1] + sizes[2] == sizes[0]
    assert list_unmade(vision.network) == list_unmade(language.network) == []


@pytest.mark.parametrize("family", SOME)
def test_the_token_embedding_lies_in_a_file_of_its_own(family: str) -> None:
    plain, _, _, folder = stressed(family)
    (stored,) = load_file(file_of(folder, "embedding")).values()
    assert torch.equal(stored, plain.network.get_input_embeddings().weight)


def test_a_part_that_lacks_values_says_which(tmp_path: Path) -> None:
    plain, _, _, folder = stressed("llava")
    source = folder.parent / "whole"
    cut(source, tmp_path, family=plain.family, model="llava", digest="d", embedding=False)
    path = file_of(tmp_path, "vision")
    kept = [value for value in list_values(path.parent) if "linear_1" not in value.name]
    copy_values(kept, tmp_path / "kept.safetensors")
    (tmp_path / "kept.safetensors").replace(path)
    family = read_family(tmp_path)
    with pytest.raises((PartMissing, KeyError, RuntimeError), match="linear_1"):
        load_vision(tmp_path, family=family, dtype=torch.float32, device=CPU)
