"""Verdicts on one small module: every way in which a function can differ, and libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, QuantizedCache

from profiling.captures import capture
from profiling.captures.array_libraries import open_library
from profiling.captures.blind_spots import BlindSpots, is_fresh
from profiling.captures.distances import distance, worst_elements
from profiling.captures.findings import UNJUDGED
from profiling.captures.folder import Capture
from profiling.captures.judgements import judge_functions
from profiling.captures.judging import Judge, Verdict, name_result
from profiling.captures.leaves import only_real, real_rows
from profiling.captures.reading_watch import unread_names, watch
from profiling.errors import ConfigError
from profiling.models.grouped_linear import GroupedLinear, quantize_groups
from tests.captures.captured import capture_scaled, make_scaled


def judge(folder: Path, function: Callable[..., Any], library: str = "torch") -> list[Verdict]:
    module, found = capture_scaled(folder)
    return Judge(
        capture=found,
        network=module,
        find=lambda call: function if found.kind(call) == "Scaled" else None,
        library=open_library(library),
    ).judge_all()


def right(w: Any, settings: Any, arguments: Any) -> Any:
    y = (arguments["x"] @ w["inner"]["weight"].T + w["inner"]["bias"]) * settings.module["factor"]
    add = arguments.get("add")
    return y if add is None else y + add


def test_a_right_function_passes(tmp_path: Path) -> None:
    verdicts = judge(tmp_path / "calls", right)
    assert [verdict.failures() for verdict in verdicts] == [[], []]
    assert all(verdict.unread == [] and verdict.worst("formula") < 1e-15 for verdict in verdicts)


def raises(w: Any, settings: Any, arguments: Any) -> Any:
    raise ValueError("not yet")


def in_float32(w: Any, settings: Any, arguments: Any) -> Any:
    weight, bias = (w["inner"][name].float() for name in ("weight", "bias"))
    y = (arguments["x"].float() @ weight.T + bias) * settings.module["factor"]
    return y if arguments.get("add") is None else y + arguments["add"].float()


def to_nan(y: Tensor) -> Tensor:
    return torch.where(torch.arange(y.shape[-1]) == 0, torch.nan, y)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (raises, "the function raised ValueError: not yet"),
        (lambda *given: right(*given)[:1], "shape [1, 4] instead of [3, 4]"),
        (lambda *given: {"hidden": right(*given)}, "the function returned hidden"),
        (lambda *given: None, "the function returned no array"),
        (lambda *given: right(*given).to_sparse(), "a sparse tensor"),
        (lambda *given: right(*given) * (1 + 1e-7), "another formula: in float64 it differs by 1"),
        (lambda *given: to_nan(right(*given)), "another formula: in float64 it differs by inf"),
        (lambda *given: right(*given).bfloat16(), "times the original's own"),
        (lambda *given: right(*given).double(), "float64 instead of float32"),
        (lambda *given: right(*given) + 0j, "complex64 instead of float32"),
        (lambda *given: (right(*given),), "the function returned 0; the module has one array"),
        (lambda *given: in_float32(*given), "in float64, where it returns float32, it differs by"),
        (lambda *given: sys.exit(0), "the function raised SystemExit: 0"),
    ],
)
def test_what_failed_is_said(wrong: Any, told: str, tmp_path: Path) -> None:
    verdict = judge(tmp_path / "calls", wrong)[0]
    assert not verdict.passes and verdict.is_innermost
    assert told in "; ".join(verdict.failures())


def test_the_worst_elements_are_named(tmp_path: Path) -> None:
    def wrong(*given: Any) -> Any:
        y = right(*given).clone()
        y[1, 2] += 5
        return y

    (output,) = judge(tmp_path / "calls", wrong)[0].outputs
    index, found, wanted = output.worst[0]
    assert index == [1, 2] and found - wanted == pytest.approx(5)


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("what", ["the weight inner.bias", "the argument x"])
def test_a_function_that_changes_what_it_is_given_fails(
    what: str, library: str, tmp_path: Path
) -> None:
    """The first call is right; the next ones would be, too, if the original got these values."""

    def wrong(w: Any, settings: Any, arguments: Any) -> Any:
        y = right(w, settings, arguments)
        changed = w["inner"]["bias"] if "bias" in what else arguments["x"]
        changed *= 2
        return y

    verdicts = judge(tmp_path / "calls", wrong, library)
    assert [verdict.failures() for verdict in verdicts] == [[f"it changes in place {what}"]] * 2


def test_more_than_an_output_has_is_named() -> None:
    found = name_result((1, torch.ones(2), torch.ones(3)), {"a": torch.ones(1), "b": None})
    assert list(found) == ["b", "2"]


class Padded(nn.Module):
    """Each position doubled, and one number for each row of the batch and label."""

    def forward(self, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, (x * attention_mask[..., None]).sum(1)[:, :2]


def test_padding_is_left_out_and_the_place_of_an_error_is_that_in_the_output(
    tmp_path: Path,
) -> None:
    mask, network = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), Padded().eval()
    with capture(network, tmp_path / "calls"):
        network(torch.randn(2, 4, 3), attention_mask=mask)

    def wrong(_: Any, __: Any, arguments: Any) -> Any:
        doubled, pooled = network(**arguments.named())
        doubled[0, 3], doubled[1, 1, 2], pooled[0, 1] = 50, 60, 70
        return doubled, pooled

    (verdict,) = Judge(
        capture=Capture(tmp_path / "calls"),
        network=network,
        find=lambda _: wrong,
        library=open_library("torch"),
    ).judge_all()
    doubled, pooled = verdict.outputs
    # The first number is at a padded position, the last one is of no position.
    assert [(index, found) for index, found, _ in doubled.worst[:1]] == [([1, 1, 2], 60)]
    assert [(index, found) for index, found, _ in pooled.worst[:1]] == [([0, 1], 70)]
    assert pooled.failures() and 50 not in {found for _, found, _ in doubled.worst}


def test_what_the_original_cannot_be_run_on_is_not_judged(tmp_path: Path) -> None:
    module = make_scaled()
    with capture(module, tmp_path / "calls"):
        module(torch.randn(3, 6), Opposite())
        module(torch.randn(2, 6))
    found = judge_functions(
        Capture(tmp_path / "calls"), module, {"Scaled": right, "Typo": right}, open_library("torch")
    )
    assert found.status == UNJUDGED
    told = "\n".join(found.sentences)
    assert "NOT JUDGED Scaled, (the whole network), call 0: the original in float64: an arg" in told
    assert "FAILS" not in told and "1 of 1 judged calls agree, of 4 captured" in told
    assert "no captured call for the functions of Typo" in told


class Keeping(nn.Module):
    """Returns all keys that its cache has."""

    def forward(self, x: Tensor, past_key_values: Any) -> Tensor:
        keys, _ = past_key_values.update(x, x, 0)
        return keys


def test_quantized_weights_and_caches_are_not_judged(tmp_path: Path) -> None:
    weight = quantize_groups(torch.randn(8, 8), bits=4, group=4)
    layer = nn.Sequential(GroupedLinear(weight, None)).eval()
    with capture(layer, tmp_path / "weights"), torch.inference_mode():
        layer(torch.randn(2, 8))
    config = LlamaConfig(num_hidden_layers=1)
    module, x = Keeping().eval(), torch.randn(1, 2, 3, 4)
    with capture(module, tmp_path / "cache"), torch.inference_mode():
        cache = QuantizedCache("fp8", config)
        module(x, cache)
        module(x, cache)
    for network, name in ((layer, "weights"), (module, "cache")):
        found = Capture(tmp_path / name)
        verdicts = Judge(
            capture=found,
            network=network,
            find=lambda call: lambda *given: torch.zeros(1),
            library=open_library("torch"),
        ).judge_all()
        assert verdicts and not any(one.fails for one in verdicts)
        assert all(f"its {name}" in str(one.unjudged) for one in verdicts)


def test_a_capture_in_training_mode_is_told(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5)).requires_grad_(False)
    with capture(module, tmp_path / "calls"):
        module(torch.randn(9, 6))

    def function(w: Any, _: Any, arguments: Any) -> Any:
        return arguments["input"] @ w[0]["weight"].T + w[0]["bias"]

    found = Capture(tmp_path / "calls")
    library, functions = open_library("torch"), {"Sequential": function}
    told = judge_functions(found, module.eval(), functions, library).sentences
    assert any("was it captured in training mode?" in sentence for sentence in told)
    with capture(module, tmp_path / "again"):
        module(torch.randn(9, 6))
    told = judge_functions(Capture(tmp_path / "again"), module, functions, library).sentences
    assert not any("training" in sentence for sentence in told)


class Opposite:
    """Something that can be added, and is not stored."""

    def __radd__(self, other: Tensor) -> Tensor:
        return -other


def test_a_function_without_float64_is_judged_by_its_rounding(tmp_path: Path) -> None:
    def narrow(w: Any, settings: Any, arguments: Any) -> Any:
        if arguments["x"].dtype == torch.float64:
            raise TypeError("this device has no float64")
        return right(w, settings, arguments)

    verdicts = judge(tmp_path / "calls", narrow)
    assert all(verdict.passes and verdict.worst("formula") is None for verdict in verdicts)
    assert "this device has no float64" in verdicts[0].notes[0]


@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_functions_of_other_libraries(library: str, tmp_path: Path) -> None:
    if library == "jax":
        pytest.importorskip("jax")
    kinds = set()

    def function(w: Any, settings: Any, arguments: Any) -> Any:
        kinds.add(type(w["inner"]["bias"]).__module__.partition(".")[0])
        return right(w, settings, arguments)

    assert all(verdict.passes for verdict in judge(tmp_path / "calls", function, library))
    assert "torch" not in kinds and len(kinds) == 1


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    with pytest.raises(ConfigError, match="jax is not installed"):
        open_library("jax")


def test_bfloat16_is_widened_for_numpy() -> None:
    library = open_library("numpy")
    array = library.array(torch.ones(2, dtype=torch.bfloat16))
    assert array.dtype == numpy.float32
    assert "no bfloat16" in str(library.note(torch.bfloat16))
    assert library.note(torch.float32) is None


def test_what_is_read_of_weights_is_noted() -> None:
    nested = {"a": {"weight": 1, "bias": 2}, "b": [{"weight": 3}, {"weight": 4}], "c": 5}
    names = ["a.weight", "a.bias", "b.0.weight", "b.1.weight", "c"]
    read: set[str] = set()
    watched = watch(nested, read)
    assert unread_names(names, read) == names
    _ = watched["a"]["weight"], watched["b"][1]["weight"]
    assert unread_names(names, read) == ["a.bias", "b.0.weight", "c"]
    _ = {**watched["a"]}, [part["weight"] for part in watched["b"][:1]], dict(watched.items())
    assert unread_names(names, read) == []


def test_distances() -> None:
    x = torch.tensor([3.0, 4.0])
    assert distance(x, x).relative == 0
    assert distance(1.1 * x, x).relative == pytest.approx(0.1)
    assert distance(x[:1], x).relative == float("inf")
    odd = torch.tensor([1.0, torch.nan, torch.inf])
    assert distance(odd, odd).relative == 0
    assert distance(torch.tensor([1.0, torch.nan, -torch.inf]), odd).relative == float("inf")
    assert distance(torch.tensor([torch.nan, torch.nan, torch.inf]), odd).relative == float("inf")
    assert distance(torch.zeros(2), torch.zeros(2)).relative == 0
    assert worst_elements(torch.tensor(2.0), torch.tensor(1.0), 3) == [([], 2.0, 1.0)]


def test_rows_that_see_nothing_are_left_out() -> None:
    mask = torch.ones(2, 1, 3, 3, dtype=torch.bool).tril()
    assert real_rows({"attention_mask": mask}) is None
    mask[0, :, 0] = False
    real = real_rows({"attention_mask": mask})
    assert real is not None and real.tolist() == [[False, True, True], [True, True, True]]
    added = torch.where(mask, 0.0, torch.finfo(torch.bfloat16).min).bfloat16()
    assert torch.equal(real_rows({"attention_mask": added}), real)
    assert only_real("0", torch.zeros(2, 3, 7), real).shape == (5, 7)
    assert only_real("cache.1.0", torch.zeros(2, 4, 3, 7), real).shape == (5, 4, 7)
    assert only_real("0", torch.zeros(6, 7), real).shape == (6, 7)


def spots_of(folder: Path, change: Callable[[Any], object] = lambda module: None) -> set[str]:
    module, found = capture_scaled(folder)
    change(module)
    exact = Judge(
        capture=found, network=module, find=lambda call: None, library=open_library("torch")
    ).exact
    return {f"{s.subject} {s.name}" for s in BlindSpots(found, exact, lambda call: True).find()}


def test_blind_spots_of_weights_and_settings(tmp_path: Path) -> None:
    assert spots_of(tmp_path / "a") == set()
    assert spots_of(tmp_path / "b", lambda m: m.inner.bias.data.zero_()) == {"weight inner.bias"}
    assert "setting Scaled.factor" in spots_of(
        tmp_path / "c", lambda m: [m.inner.weight.data.zero_(), m.inner.bias.data.zero_()]
    )


class TwoWays(nn.Module):
    """Two layers, of which one is hardly ever taken."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 100:
            return self.other(x)  # type: ignore[no-any-return]
        return self.usual(x)  # type: ignore[no-any-return]


def test_buffers_of_a_checkpoint_are_weights_too(tmp_path: Path) -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).eval().requires_grad_(False)
    module[1].running_mean.fill_(0.5)
    module[1].running_var.fill_(0.5)
    with capture(module, tmp_path / "calls"):
        module(torch.randn(4, 3))
    found = Capture(tmp_path / "calls")
    exact = Judge(
        capture=found, network=module, find=lambda _: None, library=open_library("torch")
    ).exact
    spots = {s.name for s in BlindSpots(found, exact, lambda _: True).weights()}
    assert {"0.running_mean", "0.running_var"} <= spots
    assert not {"1.running_mean", "1.running_var"} & spots


def test_what_is_never_called_is_a_blind_spot(tmp_path: Path) -> None:
    module = TwoWays().eval().requires_grad_(False)
    with capture(module, tmp_path / "calls"):
        module(torch.randn(2, 4))
    found = Capture(tmp_path / "calls")
    judged = Judge(
        capture=found, network=module, find=lambda call: None, library=open_library("torch")
    )
    spots = BlindSpots(found, judged.exact, lambda call: True).find()
    names = {f"{spot.subject} {spot.name}" for spot in spots}
    assert {"module other", "weight other.weight", "weight other.bias"} <= names
    assert any(name.startswith("branch TwoWays") for name in names)


def test_fresh_values_are_recognised() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    nn.init.zeros_(network[0].bias)
    assert is_fresh(network)
    nn.init.normal_(network[0].bias)
    assert not is_fresh(network)
    assert not is_fresh(nn.Linear(3, 3, bias=False))
