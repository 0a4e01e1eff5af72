"""Calls of every family, stored and run again on their own modules: the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from profiling.captures import capture
from profiling.captures.folder import Capture
from profiling.captures.originals import check_same
from profiling.captures.replay import replay_all
from tests.captures.captured import captured
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask_unevenly, load


@pytest.mark.parametrize("family", FAMILIES)
def test_every_call_gives_the_same_bits_again(family: str) -> None:
    found = captured(family)
    replays = list(replay_all(found, load(family).network))
    assert len(replays) > 150
    assert found.facts["opaque"] == {}
    assert found.facts["left_out"]["calls"] == {}
    assert [one for one in replays if not one.equal] == []


OPTIMIZED = ("bf16", "static_cache", "vision_cache", "onnx_vision", "compile", "int8", "split")


@pytest.mark.parametrize("optimization", slow_except(OPTIMIZED, "static_cache"))
def test_optimized_networks_are_captured_too(optimization: str, tmp_path: Path) -> None:
    engine = load("llava", f"optimization={optimization}")
    eager = torch.compiler.set_stance("force_eager")
    with eager, capture(engine.network, tmp_path / "calls", calls=2, weights=False):
        answer(engine, ask_unevenly(engine, 1), 112, 3)
    found = Capture(tmp_path / "calls")
    check_same(found, engine.network)
    replays = list(replay_all(found, engine.network))
    assert len(replays) > 50
    assert [one for one in replays if not one.equal] == []


def test_other_weights_give_other_bits(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with capture(network, tmp_path / "calls"), torch.inference_mode():
        network(torch.randn(2, 4))
    with torch.no_grad():
        network[0].weight[0, 0] += 1e-3
    different = [
        one.call.module for one in replay_all(Capture(tmp_path / "calls"), network) if not one.equal
    ]
    assert different == ["", "0"]


class Views(nn.Module):
    """Returns what it is given: only how it lies in memory is of interest."""

    def forward(self, x: Tensor) -> list[object]:
        return [x.sum(-1), list(x.stride()), x.data_ptr() % 64]


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[:, 3:7],
        lambda x: x[1:2].expand(5, -1),
        lambda x: x[::2, ::3],
        lambda x: x[0, 5],
        lambda x: x[:0],
        lambda x: x.unfold(0, 2, 1),
    ],
)
def test_where_values_lie_is_restored(view, tmp_path: Path) -> None:
    module, x = Views(), view(torch.randn(8, 24))
    with capture(module, tmp_path / "calls"):
        wanted = module(x)
    found = Capture(tmp_path / "calls")
    (given,), _ = found.arguments(found.calls[0])
    assert torch.equal(given, x)
    if "strides that cannot be restored" not in found.facts["opaque"]:
        assert module(given)[1:] == wanted[1:]


def test_what_was_one_object_is_one_again(tmp_path: Path) -> None:
    """Attention projects queries, keys and values at once where they are the same object."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval().requires_grad_(False)
    with capture(layer, tmp_path / "calls"):
        layer(torch.randn(2, 40, 32))
    replays = list(replay_all(Capture(tmp_path / "calls"), layer))
    assert len(replays) > 5
    assert [one.call.module for one in replays if not one.equal] == []


def test_a_module_that_raises_on_a_call_is_named(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with capture(network, tmp_path / "calls"), torch.inference_mode():
        network(torch.randn(2, 4))
    network[0] = nn.Linear(3, 4)
    whole, linear, relu = replay_all(Capture(tmp_path / "calls"), network)
    assert relu.equal and not whole.equal
    assert linear.unable is not None
    assert linear.unable.startswith("the module raised RuntimeError: mat1 and mat2 shapes")
