"""Checkpoints whose weights are stored in a published quantized format: read right, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from profiling.engines.engine import Loading
from profiling.engines.functional.engine import FunctionalEngine
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import ConfigError, Unsupported
from profiling.models.grouped_linear import GroupedLinear
from profiling.models.stored_layers import unpack_layer
from profiling.models.stored_quantization import read_format
from profiling.models.weights import describe_weights, locate
from profiling.points.point import Point
from tests.composing import compose_point
from tests.marking import slow_except
from tests.models.public_packing import Array, Settings, round_weight, write_folder
from tests.models.test_public_layout import old_llava_name, old_qwen_name
from tests.tiny_models import (
    Loaded,
    ask,
    build,
    encode,
    first_logits,
    make_picture,
    make_workload,
)

SIDE = 120
AWQ = Settings(method="awq")
GPTQ = Settings(method="gptq", symmetric=True)
INT4 = Settings(method="compressed-tensors", symmetric=True)

WAYS = {
    "awq": AWQ,
    "awq, rows": Settings(method="awq", group=-1),
    "gptq": GPTQ,
    "gptq, asymmetric": Settings(method="gptq"),
    "gptq, named v1": Settings(method="gptq", version="gptq"),
    "gptq v2": Settings(method="gptq", version="gptq_v2"),
    "gptq, 8 bits": Settings(method="gptq", bits=8),
    "gptq, 2 bits": Settings(method="gptq", bits=2, group=32, version="gptq_v2"),
    "gptq, desc_act": Settings(method="gptq", ordered=True, group=32),
    "gptq, rows": Settings(method="gptq", group=-1, symmetric=True),
    "compressed, int4": INT4,
    "compressed, int4, bf16 scales": Settings(
        method="compressed-tensors", symmetric=True, scale_dtype="bfloat16"
    ),
    "compressed, int4, asymmetric": Settings(method="compressed-tensors"),
    "compressed, int8, rows": Settings(
        method="compressed-tensors", bits=8, group=-1, symmetric=True
    ),
    "compressed, int8, rows, asymmetric": Settings(method="compressed-tensors", bits=8, group=-1),
    "compressed, actorder": Settings(method="compressed-tensors", ordered=True, group=32),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_packed_layer_is_unpacked_to_the_same_weight(way: str) -> None:
    settings = WAYS[way]
    generator = numpy.random.default_rng(0)
    weight = generator.normal(size=(64, 128)).astype(numpy.float32)
    # Rows without negative values have a zero of 0.
    weight[::5] = numpy.abs(weight[::5])
    order = generator.permutation(128) if settings.ordered else None
    rounded = round_weight(
        weight,
        bits=settings.bits,
        group=settings.group,
        symmetric=settings.symmetric,
        order=order,
    )
    stored = read_format({"quantization_config": settings.config()}, "a test")
    assert stored is not None
    tensors = settings.pack(rounded)
    layer = GroupedLinear(unpack_layer(stored, tensors, 128, 64), None)
    scale = "weight_scale" if "weight_scale" in tensors else "scales"
    assert layer.scales.dtype == tensors[scale].dtype
    exact = 0 if layer.scales.dtype == torch.float16 else 1e-2
    expected = torch.from_numpy(rounded.dense).float()
    torch.testing.assert_close(layer.dense(), expected, rtol=exact, atol=1e-7)
    assert layer.bits == settings.bits and layer.stored_bytes() < 0.6 * 2 * weight.size


def test_rows_may_end_within_an_integer() -> None:
    """compressed-tensors fills the last one up."""
    settings = Settings(method="compressed-tensors", group=50)
    weight = numpy.random.default_rng(0).normal(size=(12, 100)).astype(numpy.float32)
    rounded = round_weight(weight, bits=4, group=50, symmetric=False)
    stored = read_format({"quantization_config": settings.config()}, "a test")
    assert stored is not None
    layer = GroupedLinear(unpack_layer(stored, settings.pack(rounded), 100, 12), None)
    torch.testing.assert_close(layer.dense(), torch.from_numpy(rounded.dense).float())


def test_the_last_group_may_be_shorter() -> None:
    settings = Settings(method="compressed-tensors", group=48)
    weight = numpy.random.default_rng(0).normal(size=(16, 64)).astype(numpy.float32)
    rounded = round_weight(weight, bits=4, group=48, symmetric=False)
    stored = read_format({"quantization_config": settings.config()}, "a test")
    assert stored is not None
    layer = GroupedLinear(unpack_layer(stored, settings.pack(rounded), 64, 16), None)
    torch.testing.assert_close(layer.dense(), torch.from_numpy(rounded.dense).float())


def in_text_model(layer: str) -> bool:
    blocks = "language_model" in layer and any(part.isdigit() for part in layer.split("."))
    return blocks and "relative_attention_bias" not in layer


def point_to(folder: Path, family: str, *overrides: str) -> Point:
    return compose_point(
        f"model={family}", "weights=pretrained", f"model.checkpoint={folder}", *overrides
    )


def logits_of(loaded: Loaded) -> Tensor:
    asked = [ask(loaded, "what is it?", make_picture(90 + 20 * i, 120, seed=i)) for i in range(2)]
    return first_logits(loaded, encode(loaded, asked, SIDE), SIDE)


def with_dense_weights(family: str, dense: dict[str, Array]) -> TransformersEngine:
    """The embedded model with the weights that the packed ones stand for."""
    plain = build(compose_point(f"model={family}"))
    for path, weight in dense.items():
        plain.network.get_submodule(path).weight.data = torch.from_numpy(weight).float()
    return plain


LOADED = {
    "llava": (AWQ, in_text_model, old_llava_name, 1),
    "qwen25vl": (Settings(method="gptq", ordered=True), in_text_model, old_qwen_name, 3),
    "fuyu": (INT4, in_text_model, str, 2),
    "blip2_opt": (
        Settings(method="compressed-tensors", bits=8, group=-1),
        in_text_model,
        str,
        1,
    ),
    "blip2_t5": (Settings(method="gptq", group=32, version="gptq_v2"), in_text_model, str, 1),
}


@pytest.mark.parametrize("family", slow_except(LOADED, "llava"))
def test_a_folder_answers_as_its_dense_weights_do(family: str, tmp_path: Path) -> None:
    settings, converted, rename, shards = LOADED[family]
    folder = tmp_path / "quantized"
    dense = write_folder(
        folder, family, settings, converted=converted, rename=rename, shards=shards
    )
    engine = build(point_to(folder, family))
    made = engine.model.quantized
    assert made is not None and sorted(made.names) == sorted(dense) and len(dense) >= 20
    exact, found = logits_of(with_dense_weights(family, dense)), logits_of(engine)
    assert float((found - exact).norm() / exact.norm()) < 1e-5
    plain = build(compose_point(f"model={family}"))
    assert engine.model.parameter_bytes() < plain.model.parameter_bytes()
    # What was not converted is as it was: the head, and the vision part.
    left = {n for n, m in engine.network.named_modules() if type(m) is nn.Linear}
    assert engine.family.layout.parts.head in left
    vision = engine.family.layout.parts.vision
    assert any(name.startswith(vision) for name in left)


@pytest.fixture(scope="module")
def awq_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "llava-awq"
    write_folder(folder, "llava", AWQ, converted=in_text_model)
    return folder


def test_the_record_says_what_was_loaded(awq_folder: Path) -> None:
    point = point_to(awq_folder, "llava")
    assert "awq, 4 bits, groups of 64" in describe_weights(point)
    engine = build(point)
    assert "reference kernel" in str(engine.footprint().computes_in)
    workload = make_workload(engine, batch_size=1, max_new_tokens=2, count=1)
    loading = Loading(load_s=1.0, peak_bytes=123, peak_source="a test")
    rows = {row.metric: row for row in engine.readings(workload, loading)}
    assert rows.keys() == {"quantized_share", "bits_per_weight"}
    assert "a checkpoint of awq" in rows["bits_per_weight"].source
    assert rows["bits_per_weight"].value == pytest.approx(4 + 24 / 64)
    costs = engine.costs(workload.encode(0), length=2, cross_check=False)
    assert costs is not None


def test_its_bytes_are_known_before_it_is_loaded(awq_folder: Path) -> None:
    point = point_to(awq_folder, "llava")
    loaded = build(point).footprint().model_bytes
    counted = TransformersEngine.count(point)
    assert counted.weight_bytes == pytest.approx(loaded, rel=0.002)
    assert counted.dense_bytes > counted.weight_bytes
    assert not counted.uncertain


def test_what_a_library_quantized_is_not_weighed_silently(awq_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "by_library"
    shutil.copytree(awq_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    (told,) = TransformersEngine.count(point_to(folder, "llava")).uncertain
    assert "quantized, and counted in the dtype" in told


def test_a_label_names_the_checkpoint(awq_folder: Path) -> None:
    assert "llava-awq" in point_to(awq_folder, "llava").label()
    assert "llava-awq" not in compose_point("model=llava").label()


def test_an_address_is_that_of_what_is_stored(awq_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "llava-awq"
    write_folder(other, "llava", Settings(method="awq", group=32), converted=in_text_model)
    digests = {locate(point_to(folder, "llava")).digest for folder in (awq_folder, other)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "stack", slow_except(["bf16", "static_cache", "token_pruning"], "static_cache")
)
def test_it_stacks_with_what_leaves_weights_alone(awq_folder: Path, stack: str) -> None:
    engine = build(point_to(awq_folder, "llava", f"optimization={stack}"))
    assert engine.model.quantized is not None
    workload = make_workload(engine, batch_size=1, max_new_tokens=3, count=1)
    engine.settle(workload)
    workload.run(0)


@pytest.mark.parametrize(
    "name", slow_except(["int4", "int8", "awq", "split", "onnx_vision"], "int8", "onnx_vision")
)
def test_what_takes_dense_weights_is_unsupported(awq_folder: Path, name: str) -> None:
    point = point_to(awq_folder, "llava", f"optimization={name}")
    with pytest.raises(Unsupported, match=rf"optimization={name}: .*checkpoint of awq"):
        TransformersEngine.check(point)


def test_a_runtime_and_plain_functions_are_unsupported(awq_folder: Path) -> None:
    with pytest.raises(Unsupported, match=r"engine=onnxruntime: .*checkpoint of awq"):
        TransformersEngine.check(point_to(awq_folder, "llava", "engine=onnxruntime"))
    with pytest.raises(Unsupported, match="not quantized"):
        FunctionalEngine.check(point_to(awq_folder, "llava", "engine=functional"))


# Broken checkpoints: what is done to the tensors of one layer, and what is said.
LAYER = "model.language_model.layers.0.self_attn.q_proj"


def without(end: str) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        del tensors[f"{LAYER}.{end}"]

    return apply


def changed(end: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        tensors[f"{LAYER}.{end}"] = change(tensors[f"{LAYER}.{end}"]).contiguous()

    return apply


BROKEN = {
    "no scales": (AWQ, without("scales"), r"there is no .*q_proj\.scales in it"),
    "no zeros": (GPTQ, without("qzeros"), r"there is no .*q_proj\.qzeros in it"),
    "no scale": (INT4, without("weight_scale"), r"there is no .*q_proj\.weight_scale in it"),
    "scales of another shape": (
        AWQ,
        changed("scales", lambda t: t[:, :-8]),
        r"q_proj\.scales is 3x184 and should be 3x192",
    ),
    "other groups": (
        GPTQ,
        changed("qzeros", lambda t: t[:-1]),
        r"q_proj\.qzeros is 2x24 and should be 3x24",
    ),
    "integers of another size": (
        GPTQ,
        changed("qweight", lambda t: t.long()),
        r"q_proj\.qweight is I64 and should be I32",
    ),
    "a weight of one axis": (AWQ, changed("qweight", torch.flatten), r"q_proj\.qweight is 4608"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_layer_is_refused_before_anything_is_read(what: str, tmp_path: Path) -> None:
    settings, change, said = BROKEN[what]
    folder = break_folder(tmp_path / "broken", settings, change)
    with pytest.raises(ConfigError, match=r"^model\.checkpoint=.*model\.safetensors: .*" + said):
        locate(point_to(folder, "llava"))


BROKEN_INSIDE = {
    "an input of no group": (
        Settings(method="gptq", ordered=True),
        changed("g_idx", lambda t: t + 2),
        r"q_proj\.g_idx holds 2 to 4; groups are 3",
    ),
    "scales that are no numbers": (
        AWQ,
        changed("scales", lambda t: t * float("nan")),
        r"q_proj\.scales holds values that are not finite",
    ),
    "another size said": (
        INT4,
        changed("weight_shape", lambda t: t + 1),
        r"q_proj\.weight_shape is \[193, 193\]; the layer is \[192, 192\]",
    ),
    "a layer of another size": (
        AWQ,
        lambda tensors: halve(tensors),
        r"q_proj\.qweight is 96x24 and should be 192x24",
    ),
    "a layer that the network lacks": (
        AWQ,
        lambda tensors: tensors.update(
            {f"model.nothing.{end}": tensors[f"{LAYER}.{end}"].clone() for end in AWQ_ENDS}
        ),
        r"model\.nothing\.qweight is of no linear layer",
    ),
}
AWQ_ENDS = ("qweight", "qzeros", "scales")


def halve(tensors: dict[str, Tensor]) -> None:
    """A layer of half as many inputs, whose tensors fit each other."""
    tensors[f"{LAYER}.qweight"] = tensors[f"{LAYER}.qweight"][:96].contiguous()
    for end in ("qzeros", "scales"):
        tensors[f"{LAYER}.{end}"] = tensors[f"{LAYER}.{end}"][:2].contiguous()


@pytest.mark.parametrize("what", BROKEN_INSIDE)
def test_what_only_the_network_or_the_values_show_is_refused_while_loading(
    what: str, tmp_path: Path
) -> None:
    settings, change, said = BROKEN_INSIDE[what]
    folder = break_folder(tmp_path / "broken", settings, change)
    with pytest.raises(ConfigError, match=r"^model\.checkpoint=.*model\.safetensors: .*" + said):
        build(point_to(folder, "llava"))


def break_folder(
    folder: Path, settings: Settings, change: Callable[[dict[str, Tensor]], None]
) -> Path:
    write_folder(folder, "llava", settings, converted=lambda layer: layer == LAYER)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def mixed(said: dict[str, Any]) -> dict[str, Any]:
    """Two groups of layers, each with bits of its own."""
    first = said["config_groups"]["group_0"]
    second = first | {"weights": first["weights"] | {"num_bits": 8}}
    return said | {"config_groups": {"group_0": first, "group_1": second}}


def with_activations(said: dict[str, Any]) -> dict[str, Any]:
    first = said["config_groups"]["group_0"] | {"input_activations": {"num_bits": 8}}
    return said | {"config_groups": {"group_0": first}}


SAID = {
    "bits are 3": (AWQ, {"bits": 3}, "bits are 3; allowed for awq is 4"),
    "bits are 3, gptq": (GPTQ, {"bits": 3}, "bits are 3; allowed for gptq is 2, 4, 8"),
    "bits are text": (GPTQ, {"bits": "four"}, "bits are 'four'"),
    "no bits": (GPTQ, {"bits": None}, "bits are None"),
    "another version": (AWQ, {"version": "gemv"}, "version is gemv; allowed for awq is gemm"),
    "marlin": (GPTQ, {"checkpoint_format": "marlin"}, "checkpoint_format is marlin"),
    "marlin, as a switch": (GPTQ, {"is_marlin_format": True}, "checkpoint_format is marlin"),
    "settings by layer": (GPTQ, {"dynamic": {"-:.*": {}}}, "dynamic"),
    "a group of nothing": (AWQ, {"group_size": 0}, "group_size is 0"),
    "an unknown method": (AWQ, {"quant_method": "aqlm"}, "quant_method is 'aqlm'; allowed is one"),
    "no method": (AWQ, {"quant_method": None}, "quant_method is None; allowed is one"),
    "another format": (INT4, {"format": "float-quantized"}, "format is 'float-quantized'"),
    "a quantized cache": (INT4, {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
    "no groups": (INT4, {"config_groups": {}}, "config_groups has to have one setting"),
    "several settings": (INT4, mixed, "config_groups has to have one setting"),
    "activations": (INT4, with_activations, "input_activations are quantized"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_format_that_is_not_read_is_refused_in_one_line(
    what: str, awq_folder: Path, tmp_path: Path
) -> None:
    settings, change, said = SAID[what]
    config = json.loads((awq_folder / "config.json").read_text(encoding="utf-8"))
    own = settings.config()
    config["quantization_config"] = change(own) if callable(change) else own | change
    folder = tmp_path / "said"
    folder.mkdir()
    for path in awq_folder.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json, quantization_config: ") as caught:
        locate(point_to(folder, "llava"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_any_packed_layer_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    write_folder(folder, "llava", AWQ, converted=lambda _: False)
    with pytest.raises(ConfigError, match=r"says awq, and no tensor is called \*\.qweight"):
        locate(point_to(folder, "llava"))
