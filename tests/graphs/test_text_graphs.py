"""Text parts as graphs: what the check compares, and what it refuses."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from profiling.engines.transformers.runtime_cache import RuntimeCache
from profiling.graphs.check import ExportFailed
from profiling.graphs.own_formats import own_text
from profiling.graphs.precise import DoublePrecision
from profiling.graphs.text_graphs import RECORD_FILE, check_text, compare_text, export_text, pick
from profiling.models.model import Model
from profiling.models.text_parts import DECODER, EMBEDDING, CacheShape, Lengths, attention_bias
from profiling.runtimes.onnxruntime import OnnxRuntime
from tests.composing import PROJECT
from tests.tiny_models import FAMILIES, load

CPU = {"provider": None, "provider_options": None}


def short(family: str) -> Model:
    """A copy of an embedded model with one layer of text."""
    plain = load(family, "optimization=fp32").model
    model = replace(plain, network=copy.deepcopy(plain.network))
    stack = model.network.get_submodule(model.family.layout.decoder_stack)
    stack.layers = stack.layers[:1]
    config = copy.deepcopy(model.family.config)
    config.text_config.num_hidden_layers = 1
    return replace(
        model, family=replace(model.family, layout=type(plain.family.layout)(config=config))
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return short("blip2_opt")


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    export_text(model, folder, names=(EMBEDDING, DECODER), precision="float32", provider=None)
    return folder


def test_the_record_states_the_error_at_every_length(exported: Path) -> None:
    record = json.loads((exported / RECORD_FILE).read_text())
    assert {"text_embedding", DECODER} == record["parts"].keys()
    checked = record["parts"][DECODER]["checked"]
    assert {(c["lengths"]["batch"], c["lengths"]["past"]) for c in checked} >= {(1, 0), (4, 37)}
    for one in checked:
        assert 0 < one["relative_l2"] < 1e-5
        assert 0 < one["relative_l2_of_torch"] < 1e-5
    assert record["make_s"] > 0


def test_a_graph_names_modules_and_no_path_of_this_machine(exported: Path) -> None:
    content = (exported / f"{DECODER}.onnx").read_bytes()
    assert str(PROJECT).encode() not in content and b"site-packages" not in content
    assert b"decoder.layers.0.self_attn" in content


class Copying(OnnxRuntime):
    """Stores a graph as it is."""

    suffix, stores_with = ".onnx", ("onnxruntime",)

    def store(self, path: Path, folder: Path, *, precision: str) -> Path:
        for one in path.parent.glob(f"{path.name}*"):
            shutil.copy(one, folder)
        return folder / path.name


def test_a_format_of_the_runtime_costs_the_export_too(
    model: Model, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime = Copying.of(device="cpu", threads=1, settings=CPU)
    made = own_text(model, exported, runtime, precision="int8")
    before, after = (json.loads((one / RECORD_FILE).read_text()) for one in (exported, made))
    assert after["make_s"] > before["make_s"]
    assert after["make_peak_bytes"] >= before["make_peak_bytes"]


def test_another_network_is_noticed(model: Model, exported: Path) -> None:
    runtime = OnnxRuntime.of(device="cpu", threads=1, settings=CPU)
    part = copy.deepcopy(model.family.layout.text_parts(model.network)[DECODER])
    program = runtime.open(exported / "decoder.onnx")
    layer = part.decoder.layers[0].self_attn
    layer.q_proj.weight.data *= 1.01
    found = compare_text(part, program)
    assert max(one["relative_l2"] for one in found) > 1e-4


def test_a_graph_that_differs_is_deleted(model: Model, exported: Path, tmp_path: Path) -> None:
    runtime = OnnxRuntime.of(device="cpu", threads=1, settings=CPU)
    for path in exported.glob("decoder.onnx*"):
        shutil.copyfile(path, tmp_path / path.name)
    part = copy.deepcopy(pick(model, (DECODER,))[DECODER])
    part.decoder.layers[0].fc1.weight.data *= 1.01
    with pytest.raises(ExportFailed, match=r"decoder\.onnx has a relative L2 error of"):
        check_text(part, tmp_path / "decoder.onnx", precision="float32", runtime=runtime)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8", "int4"])
def test_rewritten_weights_have_their_error_stated(
    model: Model, exported: Path, tmp_path: Path, precision: str
) -> None:
    export_text(model, tmp_path, names=(DECODER,), precision=precision, provider=None)
    record = json.loads((tmp_path / RECORD_FILE).read_text())["parts"][DECODER]
    errors = [one["relative_l2"] for one in record["checked"]]
    allowed = {"float16": 1e-3, "bfloat16": 1e-2, "int8": 0.2, "int4": 0.5}
    assert 1e-5 < max(errors) < allowed[precision]
    assert max(one["relative_l2"] for one in record["before"]) < 1e-5
    whole = json.loads((exported / RECORD_FILE).read_text())["parts"][DECODER]
    assert record["bytes"] < 0.65 * whole["bytes"]


def test_double_precision_is_double_throughout(model: Model) -> None:
    part = model.family.layout.text_parts(model.network)[DECODER]
    feeds = part.example(Lengths(batch=2, new=3, past=4, encoded=5), torch.Generator())
    precise = DoublePrecision(part)
    once, again = (precise.run(feeds)[0] for _ in range(2))
    assert once.dtype == torch.float64 and torch.equal(once, again)
    nudged = feeds["inputs_embeds"].double() * (1 + 1e-12)
    shifted = {**feeds, "inputs_embeds": nudged}
    away = (precise.run(shifted)[0] - once).abs().max()
    assert 0 < float(away) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_name_their_inputs_and_outputs(family: str) -> None:
    model = load(family, "optimization=fp32").model
    lengths = Lengths(batch=2, new=1, past=3, encoded=5)
    for part in model.family.layout.text_parts(model.network).values():
        feeds = part.example(lengths, torch.Generator().manual_seed(1))
        assert list(feeds) == list(part.axes)
        with torch.inference_mode():
            made = part(*feeds.values())
        made = made if isinstance(made, tuple) else (made,)
        assert len(made) == len(part.outputs)


def test_the_bias_of_a_cache_is_that_of_its_mask() -> None:
    seen = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    shape = CacheShape(layers=1, heads=1, width=2)
    cache = RuntimeCache(shape=shape, seen=seen.bool().numpy(), cross=())
    numpy.testing.assert_array_equal(cache.bias(5), attention_bias(seen, 5, torch.float32))
    assert cache.positions(5).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    for length in range(5, 700):
        cache.length = length
        longer = torch.nn.functional.pad(seen, (0, length + 1 - 5), value=1)
        if length in (5, 6, 260, 261, 262, 600, 699):
            numpy.testing.assert_array_equal(
                cache.bias(1), attention_bias(longer, 1, torch.float32)
            )
            assert cache.positions(1).tolist() == [[length - 2], [length]]
        else:
            cache.bias(1)
