"""Two captures of the same run: the module at which they part is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import profiling.verify
from profiling.captures import capture
from profiling.captures.divergence import compare
from profiling.captures.folder import Capture
from profiling.models.model import Model
from tests.captures.captured import LENGTH, SIDE, captured
from tests.tiny_models import answer, ask_unevenly, load, wrap


def capture_changed(change: Callable[[Any], object], folder: Path) -> Capture:
    engine = load("qwen25vl")
    network = copy.deepcopy(engine.network)
    change(network)
    model = Model(**{**vars(engine.model), "network": network})
    with capture(network, folder, calls=100, weights=False):
        answer(wrap(model), ask_unevenly(engine, 2), SIDE, LENGTH)
    return Capture(folder)


def drop_bias(network: Any) -> None:
    network.model.visual.blocks[2].attn.qkv.bias.zero_()


@pytest.fixture(scope="module")
def without_bias(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return capture_changed(drop_bias, tmp_path_factory.mktemp("captures") / "other")


def attend_in_windows(network: Any) -> None:
    network.model.visual.fullatt_block_indexes = [1]


def widen_epsilon(network: Any) -> None:
    network.model.language_model.layers[1].post_attention_layernorm.variance_epsilon *= 100


def turn_other_axes(network: Any) -> None:
    network.model.language_model.rotary_emb.mrope_section = [11, 3, 2]


def check_origin(other: Capture, path: str) -> None:
    found = compare(captured("qwen25vl"), other, tolerance=1e-6)
    assert found.origins[0].call.module == path
    assert found.origins[0].entering <= 1e-6 < found.origins[0].leaving


def test_the_module_without_a_bias_is_named(without_bias: Capture) -> None:
    check_origin(without_bias, "model.visual.blocks.2.attn.qkv")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        # What differs is an argument, so the tower itself is where it begins.
        (attend_in_windows, "model.visual"),
        pytest.param(
            widen_epsilon,
            "model.language_model.layers.1.post_attention_layernorm",
            marks=pytest.mark.slow,
        ),
        pytest.param(turn_other_axes, "model.language_model.rotary_emb", marks=pytest.mark.slow),
    ],
)
def test_the_module_that_differs_is_named(change: Any, path: str, tmp_path: Path) -> None:
    check_origin(capture_changed(change, tmp_path / "other"), path)


def test_the_same_run_does_not_part(tmp_path: Path) -> None:
    same = capture_changed(lambda network: None, tmp_path / "same")
    found = compare(captured("qwen25vl"), same, tolerance=0.0)
    assert found.apart == [] and found.unpaired == [] and len(found.pairs) > 150


def test_calls_end_in_order(tmp_path: Path) -> None:
    found = captured("qwen25vl")
    pairs = compare(found, found, tolerance=0.0).pairs
    place = {pair.call.id: number for number, pair in enumerate(pairs)}
    assert all(place[c.id] < place[c.parent] for c in found.calls if c.parent is not None)


@pytest.mark.parametrize(("same", "status"), [(True, 0), (False, 1)])
def test_the_command_says_where(
    same: bool, status: int, without_bias: Capture, tmp_path: Path, capsys: Any
) -> None:
    other = captured("qwen25vl") if same else without_bias
    arguments = [str(captured("qwen25vl").folder), "--against", str(other.folder)]
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main([*arguments, "--html", str(tmp_path / "page.html")])
    told = capsys.readouterr().out
    assert ended.value.code == status
    assert ("PARTS Linear, model.visual.blocks.2.attn.qkv" in told) is not same
    assert (tmp_path / "page.html").is_file()


def test_other_samples_are_called_other_inputs(tmp_path: Path, capsys: Any) -> None:
    engine, one = load("qwen25vl"), captured("qwen25vl")
    with capture(engine.network, tmp_path / "other", calls=100, weights=False):
        answer(engine, ask_unevenly(engine, 3), SIDE, LENGTH)
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main([str(one.folder), "--against", str(tmp_path / "other")])
    told = capsys.readouterr().out
    assert ended.value.code == 1
    assert "OTHER INPUTS" in told and "not captures of the same run" in " ".join(told.split())
    assert "nan" not in told


class Grids(torch.nn.Module):
    """A picture's features [B, C, height, width], with rows added."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.pad = torch.nn.ZeroPad2d((0, 0, 0, more))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pad(x)


def test_only_caches_may_be_longer(tmp_path: Path) -> None:
    x, folders = torch.randn(1, 2, 4, 4), []
    for more in (0, 1):
        module = Grids(more)
        folders.append(tmp_path / f"{more}")
        with capture(module, folders[-1]):
            module(x)
    one, other = map(Capture, folders)
    assert len(compare(one, other, tolerance=1.0).apart) == 2
    assert compare(one, one, tolerance=0.0).apart == []


def test_calls_that_only_the_other_has_are_told(tmp_path: Path, capsys: Any) -> None:
    module, folders = torch.nn.Linear(2, 2), [tmp_path / "one", tmp_path / "two"]
    x = torch.randn(1, 2)
    for count, folder in enumerate(folders, start=1):
        with capture(module, folder):
            for _ in range(count):
                module(x)
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main([str(folders[0]), "--against", str(folders[1])])
    assert ended.value.code == 0
    assert "1 calls are not in" in capsys.readouterr().out


def test_captures_of_other_networks_do_not_agree(tmp_path: Path, capsys: Any) -> None:
    from tests.captures.captured import capture_scaled

    _, other = capture_scaled(tmp_path / "calls")
    arguments = [str(other.folder), "--against", str(captured("qwen25vl").folder)]
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main(arguments)
    capsys.readouterr()
    assert ended.value.code == 1


def test_another_dtype_parts_at_once(tmp_path: Path) -> None:
    engine = load("qwen25vl", "optimization=bf16")
    with capture(engine.network, tmp_path / "calls", calls=100, weights=False):
        answer(engine, ask_unevenly(engine, 2), SIDE, LENGTH)
    found = compare(captured("qwen25vl"), Capture(tmp_path / "calls"), tolerance=1e-5)
    assert len(found.apart) > 100
    assert (
        max(pair.leaving for pair in found.apart if torch.isfinite(torch.tensor(pair.leaving))) < 1
    )
