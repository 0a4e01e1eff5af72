"""The families as plain functions give what the library's networks give, in every array library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from profiling.errors import Unsupported
from profiling.models.array_functions import activation, resize_positions
from profiling.models.blip2_t5.functional import bucket
from profiling.models.functional_family import FunctionalFamily, find_functions
from profiling.models.greedy import Rules
from profiling.models.loading import find_family, read_config
from profiling.models.nested_weights import flatten
from profiling.models.network_weights import converter, flat_weights, nested_weights_of
from tests.marking import slow_except
from tests.models.in_double import Lifted, doubled
from tests.tiny_models import FAMILIES, PROJECT, ask_unevenly, encode, load, model_of

LENGTH = 10


def config_of(family: str) -> dict[str, Any]:
    config: dict[str, Any] = load(family).family.config.to_dict()
    return config


@cache
def weights_of(family: str, library: str) -> Any:
    return nested_weights_of(load(family).network, library)


def given(inputs: Mapping[str, Tensor], library: str) -> dict[str, Any]:
    """The processor's tensors: pixels in the library that is to compute, the rest in NumPy."""
    host = {name: value.numpy() for name, value in inputs.items()}
    return host | {"pixel_values": converter(library)(inputs["pixel_values"])}


def answer(family: str, library: str, inputs: Mapping[str, Tensor], *, exact: bool) -> Any:
    functions, network = find_functions(family), load(family).network
    with torch.inference_mode():
        return functions.generate(
            given(inputs, library),
            weights_of(family, library),
            config_of(family),
            length=LENGTH,
            rules=Rules.of(network.generation_config),
            exact=exact,
        )


def expected(family: str, inputs: dict[str, Tensor], side: int, *, exact: bool) -> numpy.ndarray:
    model = model_of(load(family))
    return model.generate(inputs, side=side, length=LENGTH, exact=exact).numpy()


# In the fast suite PyTorch is held by the logits below.
@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", slow_except([1, 4], 4))
@pytest.mark.parametrize("exact_first", slow_except([False, True], False))
def test_tokens_are_those_of_the_library(
    family: str, library: str, count: int, exact_first: bool
) -> None:
    """At one size answers up to their natural end, at the other answers of one length."""
    loaded = load(family)
    multiple = loaded.family.processing.multiple
    sides = (112, 112) if count == 1 else (2 * multiple, 150)
    for side, exact in zip(sides, (exact_first, not exact_first), strict=True):
        inputs = encode(loaded, ask_unevenly(loaded, count), side)
        wanted = expected(family, inputs, side, exact=exact)
        numpy.testing.assert_array_equal(answer(family, library, inputs, exact=exact), wanted)


@cache
def in_double(family: str) -> Any:
    return doubled(load(family).network)


def double_logits(family: str, inputs: dict[str, Tensor], side: int) -> list[numpy.ndarray]:
    """What the library chooses each token by, in double precision."""
    network, layout = in_double(family), load(family).family.layout
    with torch.inference_mode(), Lifted():
        generated = network.generate(
            **inputs,
            **layout.generate_options(side),
            max_new_tokens=LENGTH,
            min_new_tokens=LENGTH,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert generated.logits[0].dtype == torch.float64
    return [logits.numpy() for logits in generated.logits]


def function_logits(family: str, library: str, inputs: dict[str, Tensor]) -> list[numpy.ndarray]:
    """The logits of the functions while they choose their own tokens."""
    functions, seen = find_functions(family), []

    def step(token: Any, state: Any, weights: Any, config: Any) -> Any:
        logits, state = functions.step(token, state, weights, config)
        seen.append(numpy.asarray(logits))
        return logits, state

    def prefill(*arguments: Any) -> Any:
        logits, state = functions.prefill(*arguments)
        seen.append(numpy.asarray(logits))
        return logits, state

    parts = {name: getattr(functions, name) for name in FunctionalFamily.__dataclass_fields__}
    watched = FunctionalFamily(**{**parts, "prefill": prefill, "step": step})
    with torch.inference_mode():
        watched.generate(
            given(inputs, library),
            nested_weights_of(in_double(family), library),
            config_of(family),
            length=LENGTH,
            rules=Rules.of(load(family).network.generation_config),
            exact=True,
        )
    return seen


# In the fast suite NumPy is held by the tokens above.
@pytest.mark.parametrize("library", [pytest.param("numpy", marks=pytest.mark.slow), "torch"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_double_precision_are_those_of_the_library(family: str, library: str) -> None:
    loaded = load(family)
    # A size at which learned positions are interpolated, and pictures of several shapes.
    inputs = encode(loaded, ask_unevenly(loaded, 4), 150)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    wanted = double_logits(family, inputs, 150)
    found = function_logits(family, library, inputs)
    assert len(found) == len(wanted) == LENGTH
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == numpy.float64
        assert abs(ours - theirs).max() <= 1e-12 * abs(theirs).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_nest_without_loss(family: str) -> None:
    network = load(family).network
    nested = weights_of(family, "torch")
    back, flat = flatten(nested), flat_weights(network)
    assert back.keys() == flat.keys() >= network.state_dict().keys()
    assert all(back[name].data_ptr() == flat[name].data_ptr() for name in flat)


def test_tied_weights_are_one_array() -> None:
    nested = weights_of("qwen25vl", "numpy")
    embedding = nested["model"]["language_model"]["embed_tokens"]["weight"]
    assert nested["lm_head"]["weight"] is embedding


def test_positions_are_interpolated_as_torch_does_it() -> None:
    table = torch.randn(1 + 64, 5, dtype=torch.float64)
    for rows, columns in ((3, 11), (8, 9), (16, 16), (1, 8)):
        grid = table[1:].reshape(1, 8, 8, 5).permute(0, 3, 1, 2)
        wanted = torch.nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic")
        wanted = wanted.permute(0, 2, 3, 1).reshape(-1, 5)
        found = resize_positions(table.numpy(), rows, columns)
        numpy.testing.assert_array_equal(found[:1], table[:1])
        numpy.testing.assert_allclose(found[1:], wanted, rtol=1e-12, atol=1e-13)
    assert resize_positions(table, 8, 8) is table


@pytest.mark.parametrize("settings", [(32, 128), (8, 20), (32, 100), (64, 1024)])
def test_distances_fall_into_the_library_s_buckets(settings: tuple[int, int]) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    names = ("relative_attention_num_buckets", "relative_attention_max_distance")
    config = dict(zip(names, settings, strict=True))
    distances = torch.arange(-3000, 3000)
    for both_ways in (True, False):
        wanted = T5Attention._relative_position_bucket(distances, both_ways, *settings)
        found = bucket(distances.numpy(), config, both_ways=both_ways)
        numpy.testing.assert_array_equal(found, wanted.numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_public_checkpoint_is_one_that_the_functions_know(family: str) -> None:
    kind = find_family(family).layout.network_class.config_class
    folder = PROJECT / "checkpoints" / "public" / family
    config = read_config(kind, str(folder), {"local_files_only": True}).to_dict()
    find_functions(family).check(config)
    for part in ("text_config", "vision_config"):
        for key in ("hidden_act", "activation_function", "dense_act_fn"):
            named = config.get(part, {}).get(key)
            assert named is None or callable(activation(named))


def test_what_is_not_known_is_refused_by_its_name() -> None:
    with pytest.raises(Unsupported, match="activation called mish"):
        activation("mish")
    with pytest.raises(Unsupported, match="not been written as plain functions"):
        find_functions("absent")
    functions, config = find_functions("llava"), config_of("llava")
    functions.check(config)
    config["text_config"]["rope_parameters"]["rope_type"] = "yarn"
    with pytest.raises(Unsupported, match=r"text_config\.rope_parameters\.rope_type=yarn"):
        functions.check(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_can_be_read_in_a_quarter_of_an_hour(family: str) -> None:
    path = PROJECT / "profiling" / "models" / family / "functional.py"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (320 if family == "qwen25vl" else 250)
