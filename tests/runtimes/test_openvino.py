"""A graph of two operations in OpenVINO: its names, its numbers, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from profiling.runtimes.runtime import RuntimeAbsent, find_runtime

openvino = pytest.importorskip("openvino")
SETTINGS = {"compute": "float32"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`product` of any number of rows, and what is `counted` of them."""
    weights = numpy.arange(6, dtype=numpy.float32).reshape(3, 2)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["product"]),
            helper.make_node("Add", ["number", "number"], ["twice"]),
        ],
        "two",
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("number", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("product", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("twice", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor("weights", TensorProto.FLOAT, (3, 2), weights.flatten())],
    )
    stored = tmp_path_factory.mktemp("graph") / "two.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(stored))
    return stored


def test_a_graph_gives_what_it_computes_and_keeps_it(path: Path) -> None:
    program = find_runtime("openvino").of(device="cpu", threads=1, settings=SETTINGS).open(path)
    assert (list(program.inputs), list(program.outputs)) == (
        ["rows", "number"],
        ["product", "twice"],
    )
    assert program.dtypes == {"rows": "float32", "number": "int64"}
    assert program.ranks == {"rows": 2, "number": 1}
    weights = numpy.arange(6, dtype=numpy.float32).reshape(3, 2)
    made = []
    for rows in (numpy.eye(3, dtype=numpy.float32), numpy.ones((1, 3), numpy.float32)):
        made.append((rows, program.run({"number": numpy.array([4]), "rows": rows})))
    # The second call left what the first one gave as it was.
    for rows, (product, twice) in made:
        assert numpy.array_equal(product, rows @ weights)
        assert twice.tolist() == [8]


def test_quantized_weights_are_computed_in_what_the_hint_says() -> None:
    runtime = find_runtime("openvino").of(device="cpu", threads=1, settings=SETTINGS)
    assert runtime.computes_in("int4") == runtime.computes_in("float32") == "float32"


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose logits are three times the sum of the embeddings so far, which it keeps."""
    rows, kept = ["batch", "new", 2], ["batch", 1, "past", 2]
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["inputs_embeds", "one"], ["new_k0"]),
            helper.make_node("Concat", ["past_k0", "new_k0"], ["present_k0"], axis=2),
            helper.make_node("Add", ["new_k0", "new_k0"], ["new_v0"]),
            helper.make_node("Concat", ["past_v0", "new_v0"], ["present_v0"], axis=2),
            helper.make_node("Add", ["present_k0", "present_v0"], ["both"]),
            helper.make_node("ReduceSum", ["both", "tokens"], ["logits"], keepdims=0),
        ],
        "summing",
        [
            helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, rows),
            helper.make_tensor_value_info("past_k0", TensorProto.FLOAT, kept),
            helper.make_tensor_value_info("past_v0", TensorProto.FLOAT, kept),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("present_k0", TensorProto.FLOAT, ["batch", 1, "all", 2]),
            helper.make_tensor_value_info("present_v0", TensorProto.FLOAT, ["batch", 1, "all", 2]),
        ],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("tokens", TensorProto.INT64, [2], [1, 2]),
        ],
    )
    stored = tmp_path_factory.mktemp("summing") / "decoder.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(stored))
    return stored


def decode(program: Any, lengths: Sequence[int], batch: int, before: int = 0) -> list[Any]:
    """The logits of steps of these lengths, and the keys behind the last one."""
    random = numpy.random.default_rng(batch)
    keys: Any = random.standard_normal((batch, 1, before, 2)).astype(numpy.float32)
    values: Any = 2 * keys
    made = []
    for length in lengths:
        rows = random.standard_normal((batch, length, 2)).astype(numpy.float32)
        feeds = {"inputs_embeds": rows, "past_k0": keys, "past_v0": values}
        logits, keys, values = program.run_held(feeds, room=None)
        made.append(logits)
    return [*made, numpy.asarray(keys), numpy.asarray(values)]


def open_decoder(path: Path, cache: str) -> Any:
    settings = {**SETTINGS, "cache": cache}
    return find_runtime("openvino").of(device="cpu", threads=1, settings=settings).open(path)


def test_a_state_gives_what_passed_keys_and_values_give(summing: Path) -> None:
    """Generations one after another, of other batches, and from keys and values that are given."""
    passed, held = (open_decoder(summing, cache) for cache in ("passed", "stateful"))
    assert set(passed.inputs) == set(held.inputs)
    assert list(passed.outputs) == list(held.outputs)
    for lengths, batch, before in (((3, 1, 1), 1, 0), ((5, 1), 4, 0), ((2, 1, 1, 1), 2, 3)):
        one, other = (decode(program, lengths, batch, before) for program in (passed, held))
        for right, found in zip(one, other, strict=True):
            assert right.shape == found.shape
            assert numpy.allclose(right, found, atol=1e-5)


def test_a_state_that_is_gone_is_not_read(summing: Path) -> None:
    program = open_decoder(summing, "stateful")
    empty = numpy.zeros((1, 1, 0, 2), numpy.float32)

    def step(keys: Any, values: Any) -> list[Any]:
        rows = numpy.ones((1, 2, 2), numpy.float32)
        feeds = {"inputs_embeds": rows, "past_k0": keys, "past_v0": values}
        made: list[Any] = program.run_held(feeds, room=None)[1:]
        return made

    first = step(empty, empty)
    second = step(*first)
    assert [numpy.asarray(one).shape for one in second] == [(1, 1, 4, 2)] * 2
    with pytest.raises(RuntimeError, match=r"engine\.cache=stateful"):
        step(*first)
    with pytest.raises(RuntimeError, match="keys and values of an earlier step"):
        numpy.asarray(first[0])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Two products one after the other, and their weights."""
    random = numpy.random.default_rng(0)
    weights = [random.standard_normal(s).astype(numpy.float32) for s in ((64, 96), (96, 64))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "w0"], ["inner"]),
            helper.make_node("MatMul", ["inner", "w1"], ["product"]),
        ],
        "product",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["batch", 64])],
        [onnx.numpy_helper.from_array(w, f"w{place}") for place, w in enumerate(weights)],
    )
    stored = tmp_path_factory.mktemp("product") / "product.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(stored))
    return stored, weights


@pytest.mark.slow
def test_fewer_bits_are_smaller_and_further_off(product: tuple[Path, Any], tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    path, weights = product
    runtime = find_runtime("openvino").of(device="cpu", threads=1, settings=SETTINGS)
    rows = numpy.random.default_rng(1).standard_normal((5, 64)).astype(numpy.float32)
    right = rows @ weights[0] @ weights[1]
    found = []
    for precision in ("int8", "int4"):
        folder = tmp_path / precision
        folder.mkdir()
        stored = runtime.store(path, folder, precision=precision)
        assert stored == folder / "product.xml"
        (made,) = runtime.open(stored).run({"rows": rows})
        error = float(numpy.linalg.norm(made - right) / numpy.linalg.norm(right))
        found.append((stored.with_suffix(".bin").stat().st_size, error))
    (bytes8, error8), (bytes4, error4) = found
    assert bytes4 < bytes8 < sum(w.nbytes for w in weights) / 3
    assert 0 < error8 < 0.02 < error4 < 0.2


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_without_nncf_quantized_weights_are_one_line(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = find_runtime("openvino")
    monkeypatch.setattr("profiling.runtimes.openvino.find_spec", lambda _: None)
    with pytest.raises(RuntimeAbsent, match=r"^nncf is not installed: pip install -r .*nncf\.txt$"):
        kind.check("cpu", {**SETTINGS, "precision": precision})
    kind.check("cpu", {**SETTINGS, "precision": "float16"})


def test_what_the_machine_cannot_have_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = find_runtime("openvino")
    with pytest.raises(RuntimeAbsent, match="on the CPU here, and the device is cuda:0"):
        kind.check("cuda:0", SETTINGS)
    offering = type("Core", (), {"get_property": lambda *_: ["INT8", "FP32"]})
    monkeypatch.setattr("profiling.runtimes.openvino.openvino.Core", offering)
    kind.check("cpu", SETTINGS)
    with pytest.raises(RuntimeAbsent, match="no bfloat16 in openvino: it offers FP32, INT8"):
        kind.check("cpu", {"compute": "bfloat16"})
