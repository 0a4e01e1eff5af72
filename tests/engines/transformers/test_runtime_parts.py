"""Parts of every family in ONNX Runtime: the same tokens, the same counts, no weights in torch."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from functools import cache, partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import onnx
import pytest
import torch

from profiling.costs.accounting import geometry_of
from profiling.engines.transformers import graph_index
from profiling.engines.transformers.engine import Inputs, TransformersEngine, check_stack
from profiling.engines.transformers.runtime_decoder import RuntimeDecoder, RuntimeEncoder
from profiling.engines.transformers.runtime_parts import RuntimeParts, replaced_weights
from profiling.engines.workload import Workload
from profiling.errors import ConfigError, Unsupported
from profiling.graphs.text_graphs import RECORD_FILE
from profiling.graphs.vision_chain import read_check, read_record
from profiling.machine import machine
from profiling.points.point import Point
from profiling.runtimes import runtime
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.native_program import NativeProgram
from profiling.runtimes.native.numpy_adapter import NumpyAdapter
from profiling.runtimes.onnxruntime import OnnxRuntime
from profiling.runtimes.runtime import Buckets
from profiling.samples.samples import load_samples
from tests.composing import PROJECT, compose_point
from tests.engines.transformers.shortened import make_shortened
from tests.marking import slow_except
from tests.tiny_models import (
    FAMILIES,
    ask,
    ask_unevenly,
    build,
    encode,
    load,
    make_picture,
    make_workload,
    model_of,
    take_samples,
)

ENGINE = "engine=onnxruntime"
LENGTH = 6


def make_engine(point: Point) -> TransformersEngine:
    """The engine of a point, whose graphs are made in this process where they are missing."""
    if graph_index.find(point) is None:
        torch.set_num_threads(1)
        graph_index.make(point)
    return build(point)


Pair = tuple[TransformersEngine, TransformersEngine]
# Its vision part is exported in no time; those of the others are held by the slow tests.
WHOLE = "fuyu"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """A short model of a family in torch, and with its decoder in the runtime."""

    @cache
    def make(family: str) -> Pair:
        folder = make_shortened(family, tmp_path_factory.mktemp("short") / family)
        chosen = (f"model={family}", "weights=pretrained", f"model.checkpoint={folder}")
        parts = () if family == WHOLE else ("engine.parts=[decoder]",)
        return build(compose_point(*chosen)), make_engine(compose_point(*chosen, ENGINE, *parts))

    return make


# One without an encoder, and the one with.
FAST = (WHOLE, "blip2_t5")


@pytest.fixture(params=slow_except(FAMILIES, *FAST))
def pair(request: pytest.FixtureRequest, pairs: Callable[[str], Pair]) -> Pair:
    return pairs(request.param)


def side_of(engine: TransformersEngine) -> int:
    return compose_point(f"model={engine.family.name}").img_size


def tokens_of(engine: TransformersEngine, rows: int, *, exact: bool) -> list[list[int]]:
    side = side_of(engine)
    inputs = Inputs(encode(engine, ask_unevenly(engine, rows), side), side=side)
    return engine.generate(inputs, length=LENGTH, exact=exact, trace=None).tolist()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("exact", [True, False])
def test_tokens_are_those_of_torch(pair: Pair, rows: int, exact: bool) -> None:
    plain, engine = pair
    assert tokens_of(engine, rows, exact=exact) == tokens_of(plain, rows, exact=exact)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in FAST])
def test_tokens_of_other_families_are_those_of_torch(
    family: str, pairs: Callable[[str], Pair]
) -> None:
    plain, engine = pairs(family)
    for rows in (1, 4):
        assert tokens_of(engine, rows, exact=False) == tokens_of(plain, rows, exact=False)


@pytest.mark.parametrize("buckets", [None, Buckets(prompts=4, caches=8)], ids=["any", "buckets"])
def test_the_operator_table_answers_as_torch_does(
    pair: Pair, buckets: Buckets | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reference in NumPy, at lengths as they are and at those that code is compiled for."""
    plain, engine = pair
    (parts, *_) = engine.stack
    assert isinstance(parts, RuntimeParts)
    graphs = graph_index.find(parts.point)
    assert graphs is not None and graphs.text is not None
    kinds = {RuntimeDecoder: "decoder", RuntimeEncoder: "encoder"}
    for module in engine.network.modules():
        if type(module) in kinds:
            path = graphs.text / f"{kinds[type(module)]}.onnx"
            program = NativeProgram(NativeGraph(path, NumpyAdapter()), buckets=buckets)
            monkeypatch.setattr(module, "program", program)
    for rows in (1, 4):
        found = tokens_of(engine, rows, exact=False)
        assert found == tokens_of(plain, rows, exact=False)


def test_every_shape_of_the_vision_part_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of as many patches, one square and one wide, have other windows."""
    loaded = load("qwen25vl")
    sizes = ((112, 112), (224, 56), (112, 112))
    batches = [encode(loaded, [ask(loaded, "what?", make_picture(*size))], 112) for size in sizes]
    assert len({batch["pixel_values"].shape for batch in batches}) == 1
    run: list[int] = []
    parts = RuntimeParts(compose_point("model=qwen25vl", ENGINE))
    monkeypatch.setattr(parts, "_runtime", SimpleNamespace(compiles=True, begin_measuring=list))
    workload: Any = SimpleNamespace(
        batches=sizes, max_new_tokens=LENGTH, encode=batches.__getitem__, run=run.append
    )
    parts.settle(workload)
    assert run == [0, 1]


def test_a_trace_has_the_nodes_of_graphs(pair: Pair) -> None:
    """In the place of time outside of operators, and the engine answers as before."""
    engine = pair[1]
    before = tokens_of(engine, 1, exact=True)
    workload = make_workload(engine, batch_size=1, max_new_tokens=3, count=1)
    found = engine.trace_operators(lambda: workload.run(0))
    assert tokens_of(engine, 1, exact=True) == before
    assert "ONNX Runtime's profile" in found.source
    nodes = [one for one in found.operators if one.operator in ("MatMul", "Gemm", "FusedMatMul")]
    for phase in ("prefill", "decode"):
        layers = {one.layer for one in nodes if one.phase == phase}
        assert layers >= {"attention", "mlp", "head"}, phase
    # The head multiplies once for each of three tokens.
    heads = {one.phase: one.calls for one in nodes if one.layer == "head"}
    assert heads == {"prefill": 1, "decode": 2}
    in_the_trace = json.loads(found.chrome)["traceEvents"]
    graphs = [event for event in in_the_trace if event.get("cat") == "graph_node"]
    modules = [e for e in in_the_trace if str(e.get("name", "")).startswith("module: ")]
    assert len(graphs) > len(nodes)
    # On one clock.
    assert min(e["ts"] for e in modules) < min(e["ts"] for e in graphs)
    assert max(e["ts"] for e in graphs) < max(e["ts"] + e["dur"] for e in modules)


OF_THE_DECODER = ("flat_head", "static_cache", "quantized_cache", "prompt_lookup", "assisted")


@pytest.mark.parametrize("name", OF_THE_DECODER)
def test_what_changes_the_decoder_stands_beside_a_vision_part_in_a_runtime(name: str) -> None:
    chosen = ("model=llava", ENGINE, f"optimization={name}")
    check_stack(compose_point(*chosen, "engine.parts=[vision]"))
    with pytest.raises(Unsupported, match=f"optimization={name} changes the decoder part"):
        check_stack(compose_point(*chosen))


@pytest.mark.slow
def test_a_cache_laid_out_beforehand_beside_a_vision_part_in_a_runtime(
    pairs: Callable[[str], Pair],
) -> None:
    plain, engine = pairs(WHOLE)
    (parts, *_) = engine.stack
    assert isinstance(parts, RuntimeParts)
    folder = f"model.checkpoint={parts.point.checkpoint}"
    chosen = (f"model={WHOLE}", "weights=pretrained", folder, ENGINE, "engine.parts=[vision]")
    stacked = make_engine(compose_point(*chosen, "optimization=[static_cache,flat_head]"))
    stacked.settle(make_workload(stacked, batch_size=1, max_new_tokens=LENGTH, count=1))
    assert tokens_of(stacked, 3, exact=False) == tokens_of(plain, 3, exact=False)


def test_references_are_as_likely(pair: Pair) -> None:
    found = []
    for engine in pair:
        side = side_of(engine)
        inputs = Inputs(encode(engine, ask_unevenly(engine, 2), side), side=side)
        found.append(engine.reference_nlls(inputs, ["a red sign", "no"], LENGTH))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_torch_holds_the_embedding_alone(pair: Pair) -> None:
    plain, engine = pair
    layout = engine.family.layout
    gone = (layout.decoder_stack, layout.parts.head, layout.parts.text_encoder or "-")
    tables = {id(engine.network.get_input_embeddings().weight)}
    for name, value in engine.network.named_parameters():
        assert not name.startswith(tuple(f"{path}." for path in gone)) or id(value) in tables
    assert engine.model.parameter_bytes() > 0.5 * plain.model.parameter_bytes()


def test_phases_and_costs_are_seen(pair: Pair) -> None:
    timings, costs, kept = [], [], []
    for engine in pair:
        workload = make_workload(engine, batch_size=2, max_new_tokens=LENGTH, count=2)
        timings.append(workload.run_timed(0))
        inputs = workload.encode(0)
        costs.append(engine.costs(inputs, length=LENGTH, cross_check=False))
        assert geometry_of(engine.family, inputs, LENGTH).new_tokens == LENGTH
        read = {reading.metric: reading.value for reading in engine.memory_readings(workload)}
        kept.append(read)
    assert timings[1].phases_s.keys() == timings[0].phases_s.keys()
    assert min(timings[1].phases_s[phase] for phase in ("vision", "prefill", "decode")) > 0
    assert timings[1].num_tokens == LENGTH
    assert costs[1].counts == costs[0].counts
    assert costs[1].moved_bytes == costs[0].moved_bytes
    for metric in ("kv_cache_bytes", "kv_cache_bytes_per_token"):
        assert kept[1][metric] == kept[0][metric]
    assert kept[1]["weights_language_bytes"] > 0


def test_bytes_are_those_that_the_runtime_holds(
    pairs: Callable[[str], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single precision, also where the library's network is in half; otherwise not known."""
    _, whole = pairs(WHOLE)
    inputs = encode(whole, ask_unevenly(whole, 1), side_of(whole))
    cost = partial(whole.costs, Inputs(inputs, side=None), length=LENGTH, cross_check=False)
    moved = cost().moved_bytes
    monkeypatch.setattr(whole.model, "dtype", torch.bfloat16)
    assert cost().moved_bytes == moved
    known = partial(replaced_weights, whole.model)
    assert known(stored="bfloat16", computed="float32")
    assert not known(stored="float32", computed="bfloat16")
    assert not known(stored="int8", computed="int8")


def test_all_parts_leave_the_embedding(pairs: Callable[[str], Pair]) -> None:
    _, whole = pairs(WHOLE)
    assert [name for name, _ in whole.network.named_parameters()] == [
        "model.language_model.embed_tokens.weight"
    ]
    assert whole.footprint().computes_in == "float32"
    build_costs = whole.loaded.build
    assert build_costs.make_s and build_costs.artifact_bytes


@pytest.mark.parametrize("part", ["vision", "decoder"])
def test_a_wrong_byte_leaves_no_graph(part: str, pairs: Callable[[str], Pair]) -> None:
    (parts, *_) = pairs(WHOLE)[1].stack
    assert isinstance(parts, RuntimeParts)
    path = largest_file(parts.point, part)
    kept = path.read_bytes()
    flip(path)
    try:
        assert graph_index.find(parts.point) is None
    finally:
        path.write_bytes(kept)
    assert graph_index.find(parts.point) is not None


def largest_file(point: Point, part: str) -> Path:
    """Of the graph of a part, with its weights."""
    graphs = graph_index.find(point)
    assert graphs is not None and graphs.vision is not None and graphs.text is not None
    folder = graphs.text if part == "decoder" else graphs.vision.parent
    return max(folder.glob("*.onnx*"), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", slow_except(["vision", "decoder"], "vision"))
def test_a_wrong_byte_in_a_cached_graph_is_noticed(
    part: str, pairs: Callable[[str], Pair], caplog: pytest.LogCaptureFixture
) -> None:
    plain, engine = pairs(WHOLE)
    (parts, *_) = engine.stack
    assert isinstance(parts, RuntimeParts)
    graphs = graph_index.find(parts.point)
    flip(largest_file(parts.point, part))
    with caplog.at_level("WARNING", logger="profiling"):
        assert graph_index.find(parts.point) is None
    assert "has other bytes than when it was made" in caplog.text
    again = make_engine(parts.point)
    assert graph_index.find(parts.point) == graphs
    assert tokens_of(again, 2, exact=False) == tokens_of(plain, 2, exact=False)


@pytest.mark.parametrize("content", ["", "[]", '{"vision": 1, "text": null}', "{" * 100_000])
def test_a_damaged_index_is_no_index(content: str, pairs: Callable[[str], Pair]) -> None:
    (parts, *_) = pairs(WHOLE)[1].stack
    assert isinstance(parts, RuntimeParts)
    entry = graph_index._entry(parts.point)
    kept = entry.read_text(encoding="utf-8")
    entry.write_text(content, encoding="utf-8")
    try:
        assert graph_index.find(parts.point) is None
    finally:
        entry.write_text(kept, encoding="utf-8")


def test_an_engine_of_one_part_leaves_the_other_to_torch(pairs: Callable[[str], Pair]) -> None:
    plain, whole = pairs(WHOLE)
    (parts, *_) = whole.stack
    assert isinstance(parts, RuntimeParts)
    chosen = ("weights=pretrained", f"model.checkpoint={parts.point.checkpoint}")
    engine = make_engine(compose_point(f"model={WHOLE}", *chosen, ENGINE, "engine.parts=[vision]"))
    names = {name.split(".")[1] for name, _ in engine.network.named_parameters() if "." in name}
    assert "vision_embed_tokens" not in names and "language_model" in names
    assert tokens_of(engine, 2, exact=True) == tokens_of(plain, 2, exact=True)


# tests/graphs/test_rewriting.py has weights of eight bits in the fast suite.
@pytest.mark.parametrize("precision", slow_except(["bfloat16", "int8", "int4"], "int4"))
def test_weights_may_be_stored_in_less(precision: str) -> None:
    whole = load("fuyu", "optimization=fp32")
    chosen = ("model=fuyu", ENGINE, f"engine.precision={precision}", "engine.parts=[vision]")
    engine = make_engine(compose_point(*chosen, "optimization=fp32"))
    held = engine.network.get_submodule(engine.family.layout.parts.vision).held.nbytes
    full = whole.network.get_submodule(whole.family.layout.parts.vision).weight.nbytes
    assert held < {"bfloat16": 0.6, "int8": 0.4, "int4": 0.3}[precision] * full
    inputs = encode(engine, ask_unevenly(engine, 2), 120)
    pixels = inputs["pixel_values"]
    found = engine.family.layout.embed(engine.network, {"pixel_values": pixels})
    right = whole.family.layout.embed(whole.network, {"pixel_values": pixels})
    assert 0 < float((found - right).norm() / right.norm()) < 0.2


@pytest.mark.parametrize(
    "optimization", ["int8", "int4", "static_cache", "onnx_vision", "split", "compile"]
)
def test_what_changes_a_replaced_part_is_unsupported(optimization: str) -> None:
    point = compose_point("model=fuyu", ENGINE, f"optimization=[fp32,{optimization}]")
    with pytest.raises(Unsupported, match=f"optimization={optimization} changes the .* part"):
        check_stack(point)


@pytest.mark.parametrize("optimization", ["baseline", "fp16", "bf16", "vision_cache"])
def test_what_changes_no_module_of_a_replaced_part_is_supported(optimization: str) -> None:
    assert check_stack(compose_point("model=fuyu", ENGINE, f"optimization={optimization}"))


def test_quantized_text_beside_vision_in_the_runtime_is_supported() -> None:
    chosen = (ENGINE, "engine.parts=[vision]", "optimization=[fp32,int8]")
    assert check_stack(compose_point("model=fuyu", *chosen))


def test_an_absent_provider_is_unsupported() -> None:
    point = compose_point("model=fuyu", ENGINE, "engine.provider=VitisAIExecutionProvider")
    with pytest.raises(Unsupported, match="VitisAIExecutionProvider is not in the installed"):
        check_stack(point)


@pytest.mark.parametrize(
    "setting",
    [
        "parts=[]",
        "parts=[decoder,decoder]",
        "parts=vision",
        "parts=[words]",
        "precision=int3",
        "provider=Abacus",
        "provider_options=fast",
        "runtime=openvino",
    ],
)
def test_settings_that_cannot_be_right_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.{setting.partition('=')[0]}"):
        compose_point(ENGINE, f"engine.{setting}")


DATASETS = {"textvqa": 120, "coco": 40, "scienceqa": 40}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_that_of_torch(family: str) -> None:
    """All parts of the embedded models, one by one and padded on the left in fours."""
    plain = load(family, "optimization=fp32")
    engine = build(compose_point(f"model={family}", ENGINE, "optimization=fp32"))
    for dataset, count in DATASETS.items():
        for batch in (1, 4):
            for side in (side_of(plain), 2 * side_of(plain)):
                compare(plain, engine, dataset, count if side == side_of(plain) else 8, batch, side)


def compare(
    plain: TransformersEngine,
    engine: TransformersEngine,
    dataset: str,
    count: int,
    batch: int,
    side: int,
) -> None:
    samples = load_samples(PROJECT / "datasets" / dataset, count=None, at_most=count)
    assert len(samples) == count
    groups = [samples[i : i + batch] for i in range(0, count, batch)]
    for group in groups:
        inputs = plain.place(plain.encode(plain.prepare(group, None), side))
        right = plain.generate(inputs, length=50, exact=False, trace=None)
        found = engine.generate(inputs, length=50, exact=False, trace=None)
        assert plain.tokens(found) == plain.tokens(right)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_openvino_answers_as_torch_does(family: str) -> None:
    pytest.importorskip("openvino")
    plain = load(family, "optimization=fp32")
    engine = build(compose_point(f"model={family}", "engine=openvino", "optimization=fp32"))
    assert engine.footprint().computes_in == "float32"
    for dataset, count in DATASETS.items():
        for batch in (1, 4):
            compare(plain, engine, dataset, count, batch, side_of(plain))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_that_stay_in_openvino_answer_as_torch_does(family: str) -> None:
    """Also of questions of uneven lengths in one batch, and one generation after another."""
    pytest.importorskip("openvino")
    plain = load(family, "optimization=fp32")
    chosen = ("engine=openvino", "engine.cache=stateful", "optimization=fp32")
    engine = build(compose_point(f"model={family}", *chosen))
    for rows in (4, 1, 4):
        for exact in (False, True):
            assert tokens_of(engine, rows, exact=exact) == tokens_of(plain, rows, exact=exact)
    for dataset in DATASETS:
        for batch in (1, 4):
            compare(plain, engine, dataset, 12, batch, side_of(plain))


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["passed", "stateful"])
def test_weights_by_nncf_answer_and_state_their_error(cache: str) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    errors = {}
    for precision in ("int8", "int4"):
        chosen = ("engine=openvino", f"engine.precision={precision}", f"engine.cache={cache}")
        point = compose_point("model=fuyu", "optimization=fp32", *chosen)
        engine = build(point)
        assert len(tokens_of(engine, 4, exact=False)) == 4
        assert engine.footprint().computes_in == "float32"
        graphs = graph_index.find(point)
        assert graphs is not None and graphs.text is not None and graphs.vision is not None
        assert graphs.vision.suffix == ".xml" and graphs.precision == precision
        parts = read_record(graphs.text / RECORD_FILE)["parts"].values()
        errors[precision] = max(one["relative_l2"] for part in parts for one in part["checked"])
        assert read_check(graphs.vision)["checked"]
    assert 1e-4 < errors["int8"] < errors["int4"]


def test_settings_of_openvino_alone() -> None:
    chosen = ("model=fuyu", "engine=openvino")
    assert compose_point(*chosen, "engine.precision=int4").engine_settings["precision"] == "int4"
    with pytest.raises(
        ConfigError, match=r"engine\.cache=held: allowed is one of passed, stateful"
    ):
        compose_point(*chosen, "engine.cache=held")


def test_a_missing_package_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda _: None)
    point = compose_point("model=fuyu", "engine=openvino")
    with pytest.raises(Unsupported, match=r"openvino is not installed: pip install -r"):
        check_stack(point)


@pytest.mark.slow
def test_missing_graphs_are_made_by_a_process_of_their_own(tmp_path: Path) -> None:
    folder = make_shortened("llava", tmp_path / "llava")
    chosen = ("model=llava", "weights=pretrained", f"model.checkpoint={folder}", ENGINE)
    point = compose_point(*chosen)
    assert graph_index.find(point) is None
    graphs = graph_index.ensure(point)
    assert graphs.are_there and graph_index.find(point) == graphs
    engine = build(point)
    samples = take_samples(2)
    workload = Workload(
        engine=engine,
        batches=[samples],
        img_size=point.img_size,
        prompt_len=None,
        max_new_tokens=3,
        preload=True,
    )
    workload.run(0)
    assert model_of(engine).stored_values


def test_memory_that_the_runtime_lacks_is_out_of_memory(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Expand", ["one", "shape"], ["many"])],
        "large",
        [
            onnx.helper.make_tensor_value_info("one", onnx.TensorProto.FLOAT, [1]),
            onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [1]),
        ],
        [onnx.helper.make_tensor_value_info("many", onnx.TensorProto.FLOAT, ["n"])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, str(tmp_path / "large.onnx"))
    settings = {"provider": None, "provider_options": None}
    runtime = OnnxRuntime.of(device="cpu", threads=1, settings=settings)
    program = runtime.open(tmp_path / "large.onnx")
    feeds = {"one": numpy.ones(1, numpy.float32), "shape": numpy.array([2**50])}
    with pytest.raises(Exception) as refused:
        program.run(feeds)
    assert TransformersEngine.is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    ("status", "kills", "said", "kind"),
    [
        (-9, (3, 4), "Killed", MemoryError),
        # Somebody else killed it.
        (-9, (3, 3), "Killed", RuntimeError),
        (-9, (None, None), "Killed", RuntimeError),
        (-11, (3, 4), "", RuntimeError),
        (4, (3, 3), "RuntimeError: not enough memory", MemoryError),
        (1, (3, 3), "ValueError: a shape", RuntimeError),
        (3, (3, 3), "jax lacks NonZero", Unsupported),
    ],
)
def test_how_an_export_failed_is_known(
    status: int,
    kills: tuple[int | None, int | None],
    said: str,
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = iter(kills)
    ended = SimpleNamespace(returncode=status, stderr=said)
    for module in (graph_index, machine):
        monkeypatch.setattr(module, "oom_kill_count", lambda: next(counts))
    monkeypatch.setattr(graph_index.subprocess, "run", lambda *_, **__: ended)
    monkeypatch.setattr(graph_index, "find", lambda _: None)
    with pytest.raises(kind):
        graph_index.ensure(compose_point("model=fuyu", ENGINE))


def test_an_export_that_lacks_memory_says_so_to_who_started_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Point) -> None:
        raise RuntimeError("DefaultCPUAllocator:\nnot enough memory: you tried")

    asked = json.dumps(dataclasses.asdict(compose_point("model=fuyu", ENGINE)), default=list)
    monkeypatch.setattr(graph_index, "make", fail)
    monkeypatch.setattr(sys, "stdin", StringIO(asked))
    with pytest.raises(SystemExit) as ended:
        graph_index.main()
    assert ended.value.code == 4
    said = "RuntimeError: DefaultCPUAllocator: not enough memory: you tried\n"
    assert capsys.readouterr().err == said
