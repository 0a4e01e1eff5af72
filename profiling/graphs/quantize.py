"""Stores the weights of an exported graph in half precision, or quantized."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from profiling.graphs.check import rewriting
from profiling.graphs.kernels import sums_saturate
from profiling.graphs.layouts import delete_file, save
from profiling.models.model import Model

# Weights that share a scale: 4 bits have only 16 steps.
_BLOCK = 32
_HALVES = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


def quantize_vision(model: Model, path: Path, *, kind: str, provider: str | None) -> None:
    """Quantize a graph in place and add its error to its record.

    int8 multiplies integers, with a dynamic scale for each input; its weights have 7 bits where the
    processor would cut off sums of 8. int4 stores weights in blocks of 4 bits and multiplies in
    fp32. Neither has an error limit, since the error depends on the weights: it is in the record.
    """
    with rewriting(model, path, provider=provider, quantized=kind, limit_relative_l2=None):
        rewrite_weights(path, kind=kind)


def weight_bits(kind: str | None) -> int | None:
    """The bits of weights that are multiplied as integers: as many as this processor sums right."""
    if kind != "int8":
        return None
    return 7 if sums_saturate() else 8


def rewrite_weights(path: Path, *, kind: str) -> None:
    """Store the weights of a graph's products in another precision, in place."""
    whole = onnx.load(str(path))
    if kind in _HALVES:
        save(_half(whole, _HALVES[kind]), path)
        return
    plain = _with_plain_products(whole)
    save(_int8(plain, path) if kind == "int8" else _int4(plain), path)


def _half(model: ModelProto, element: int) -> ModelProto:
    """Weights in half precision, each converted to single precision where it is read."""
    graph = model.graph
    casts = []
    for value in graph.initializer:
        if value.data_type != onnx.TensorProto.FLOAT or len(value.dims) < 2:
            continue
        stored = f"{value.name}/half"
        casts.append(
            onnx.helper.make_node("Cast", [stored], [value.name], to=onnx.TensorProto.FLOAT)
        )
        value.CopyFrom(_narrowed(value, stored, element))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _narrowed(value: onnx.TensorProto, name: str, element: int) -> onnx.TensorProto:
    kind = onnx.helper.tensor_dtype_to_np_dtype(element)
    return numpy_helper.from_array(numpy_helper.to_array(value).astype(kind), name)


def _with_plain_products(model: ModelProto) -> ModelProto:
    """Replace Gemm by MatMul and Add: the quantizers skip Gemm."""
    graph = model.graph
    values = {value.name: value for value in graph.initializer}
    nodes = [made for node in graph.node for made in _split_linear(node, values)]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [value for name, value in values.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # Recorded shapes would contradict those of quantized tensors.
    del graph.value_info[:]
    return model


def _split_linear(node: NodeProto, values: dict[str, onnx.TensorProto]) -> Iterator[NodeProto]:
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    plain = {settings.get(name, default) for name, default in (("alpha", 1.0), ("beta", 1.0))}
    if node.op_type != "Gemm" or plain != {1.0} or settings.get("transA") or len(node.input) < 3:
        yield node
        return
    given, weight, bias = node.input
    if settings.get("transB"):
        turned = f"{weight}/turned"
        matrix = numpy.ascontiguousarray(numpy_helper.to_array(values[weight]).T)
        values[turned] = numpy_helper.from_array(matrix, turned)
        weight = turned
    product = f"{node.output[0]}/product"
    yield onnx.helper.make_node("MatMul", [given, weight], [product], f"{node.name}/product")
    yield onnx.helper.make_node("Add", [product, bias], list(node.output), f"{node.name}/sum")


def _int8(model: ModelProto, path: Path) -> ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = path.with_name("whole.onnx"), path.with_name("int8.onnx")
    save(model, source)
    # It recommends a step that the export has already done.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=weight_bits("int8") == 7,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(str(target))
    finally:
        logging.root.setLevel(level)
        for left in (source, target):
            delete_file(left)


def _int4(model: ModelProto) -> ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(model, block_size=_BLOCK, is_symmetric=False, bits=4)
    quantizer.process()
    made: ModelProto = quantizer.model.model
    return made
