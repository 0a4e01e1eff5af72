"""Full-size networks with random values: right size, created in place, able to generate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from profiling.models import weights
from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask, encode, first_logits, load, make_picture

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def shrunken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public configurations with their own tokens and vocabularies, but few, small layers."""
    root = tmp_path_factory.mktemp("checkpoints")
    for family in FAMILIES:
        tiny, public = (weights.CHECKPOINTS / kind / family for kind in ("tiny", "public"))
        shutil.copytree(tiny, root / "tiny" / family)
        small = shrink(read(public / "config.json"), read(tiny / "config.json"))
        (root / "public" / family).mkdir(parents=True)
        (root / "public" / family / "config.json").write_text(json.dumps(small), encoding="utf-8")
    return root


def read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def shrink(public: dict[str, Any], tiny: dict[str, Any]) -> dict[str, Any]:
    small = dict(public)
    for key, value in tiny.items():
        if isinstance(value, dict) and isinstance(public.get(key), dict):
            small[key] = shrink(public[key], value)
        elif not key.endswith(("_token_id", "_token_index", "vocab_size", "dtype")):
            small[key] = value
    return small


@pytest.fixture(params=slow_except(FAMILIES, "blip2_t5", "qwen25vl"))
def family(request: pytest.FixtureRequest, shrunken: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(weights, "CHECKPOINTS", shrunken)
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    shared.cache_clear()


@cache
def shared(family: str, dtype: torch.dtype) -> Model:
    """A model that no test changes."""
    return build(family, dtype)


def build(family: str, dtype: torch.dtype | None, *overrides: str) -> Model:
    point = compose_point(f"model={family}", "weights=random", *overrides)
    return load_model(point, LoadPlan(dtype=dtype))


@pytest.mark.parametrize("name", DTYPES)
def test_random_values_generate_in_every_dtype(family: str, name: str) -> None:
    model = shared(family, DTYPES[name])
    assert model.dtype == DTYPES[name]
    assert not model.stored_values
    asked = [ask(model, q, make_picture(120, 90, seed=i)) for i, q in enumerate(("what?", "a b c"))]
    side = 2 * model.family.processing.multiple
    inputs = encode(model, asked, side)
    assert int(inputs["input_ids"].max()) < model.network.get_input_embeddings().num_embeddings
    logits = first_logits(model, inputs, side)
    assert logits.isfinite().all()
    assert float(logits.std()) > 0
    tokens = answer(model, asked, side, 5)
    assert [len(row) for row in tokens] == [5, 5]


def test_shared_weights_are_shared(family: str) -> None:
    model = shared(family, torch.bfloat16)
    with torch.device("meta"):
        started = model.family.layout.network_class(model.family.config)
        model.family.layout.untie(started)
    names = [dict(network.named_parameters()).keys() for network in (model.network, started)]
    assert names[0] == names[1]
    wanted = sum(parameter.numel() for parameter in started.parameters())
    assert sum(parameter.numel() for parameter in model.network.parameters()) == wanted


def test_the_dtype_is_by_default_the_public_checkpoint_s(family: str) -> None:
    model = build(family, None)
    public = compose_point(f"model={family}").public_dtype
    assert str(model.dtype) == f"torch.{public}"


def test_the_same_seed_gives_the_same_values(family: str) -> None:
    one = shared(family, torch.bfloat16).network
    same, other = (build(family, torch.bfloat16, f"seed={seed}").network for seed in (0, 1))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name)), name
    assert not torch.equal(largest(one), largest(other))


def largest(network: nn.Module) -> Tensor:
    return max(network.parameters(), key=lambda parameter: parameter.numel())


class Allocations(TorchDispatchMode):
    """The size of the largest tensor that was created in another dtype than the run's."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype, self.largest = dtype, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.is_floating_point() and made.dtype != self._dtype:
            self.largest = max(self.largest, made.numel())
        return made


def test_values_are_made_in_the_dtype_and_never_in_a_larger_one(family: str) -> None:
    with Allocations(torch.bfloat16) as allocations:
        model = build(family, torch.bfloat16)
    assert largest(model.network).numel() > 500_000
    assert allocations.largest < 20_000


def test_scales_are_one_and_everything_else_is_spread(family: str) -> None:
    """Compared with the values that the library starts a training with."""
    model = shared(family, torch.float32)
    torch.manual_seed(0)
    started = model.family.layout.network_class(model.family.config)
    for name, ours in model.network.named_parameters():
        theirs = started.get_parameter(name).detach()
        assert bool((ours == 1).all()) == bool((theirs == 1).all()), name
        if theirs.numel() > 1 and float(theirs.std()) > 0:
            assert float(ours.std()) == pytest.approx(0.02, rel=0.2), name


def test_what_is_no_parameter_is_as_the_library_makes_it(family: str) -> None:
    """Rotary frequencies and position numbers are computed, not random."""
    model = shared(family, torch.float32)
    started = model.family.layout.network_class(model.family.config)
    buffers = dict(started.named_buffers())
    found = dict(model.network.named_buffers())
    assert buffers.keys() == found.keys()
    for name, buffer in buffers.items():
        assert found[name].dtype == buffer.dtype, name
        assert torch.equal(found[name], buffer), name


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_a_random_network_has_the_dtypes_of_a_stored_one(family: str, name: str) -> None:
    """Parts that the library keeps in single precision have their real size."""
    stored = load(family, f"optimization={name}").network
    random = shared(family, DTYPES[name]).network
    wanted = {key: p.dtype for key, p in [*stored.named_parameters(), *stored.named_buffers()]}
    found = {key: p.dtype for key, p in [*random.named_parameters(), *random.named_buffers()]}
    assert {k: found[k] for k in found if found[k] != wanted[k]} == {}
