"""Asks the runtime which dtypes a provider has kernels for, and whether sums of bytes are exact."""

from __future__ import annotations

from functools import cache

import numpy
import onnx.parser
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from profiling.runtimes.onnxruntime import start_session
from profiling.runtimes.providers import CPU_PROVIDER

_NAMES = {
    torch.float32: ("float", onnx.TensorProto.FLOAT),
    torch.float16: ("float16", onnx.TensorProto.FLOAT16),
    torch.bfloat16: ("bfloat16", onnx.TensorProto.BFLOAT16),
}
_FATAL_ONLY = 4
# No kernel, a kernel on the CPU only, or a dtype that an operator is not declared for.
_REFUSALS = (runtime.NotImplemented, runtime.Fail, runtime.InvalidGraph)
# Every operator that an exported vision part uses in half precision. All operands are inputs, so
# that nothing can be folded.
_PROBE = """
<ir_version: 8, opset_import: ["": 18]>
probe (T[4, 8] x, T[8, 8] w, T[8] b, int64[2] rows, bool[4, 8] mask) => (T[N, 8] y)
<int64[2] shape = {4, 8}, int64[2] back = {-1, 8}, int64[1] zero = {0}, int64[1] two = {2}>
{
    product = MatMul (x, w)
    linear = Gemm <transB = 1> (product, w, b)
    normal = LayerNormalization <axis = -1> (linear, b, b)
    gate = Sigmoid (normal)
    bell = Erf (normal)
    both = Mul (gate, bell)
    part = Div (both, linear)
    sum = Add (part, x)
    wide = Cast <to = FLOAT> (sum)
    soft = Softmax <axis = -1> (wide)
    narrow = Cast <to = ELEMENT> (soft)
    seen = Where (mask, narrow, sum)
    spread = Expand (b, shape)
    joined = Concat <axis = 0> (seen, spread)
    taken = Gather <axis = 0> (joined, rows)
    cut = Slice (taken, zero, two, zero)
    turned = Transpose <perm = [1, 0]> (cut)
    held = Unsqueeze (turned, zero)
    bare = Squeeze (held, zero)
    y = Reshape (bare, back)
}
"""


def make_probe(dtype: torch.dtype) -> onnx.ModelProto:
    name, element = _NAMES[dtype]
    text = _PROBE.replace("T[", f"{name}[").replace("ELEMENT", str(element))
    return onnx.parser.parse_model(text.replace("FLOAT", str(onnx.TensorProto.FLOAT)))


@cache
def has_kernels(provider: str, dtype: torch.dtype) -> bool:
    """Whether the provider runs every operator of the probe without another provider."""
    options = onnxruntime.SessionOptions()
    # A fused operator needs no kernel, and another graph may be fused differently.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # A refusal is an expected answer.
    options.log_severity_level = _FATAL_ONLY
    if provider != CPU_PROVIDER:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    probe = make_probe(dtype).SerializeToString()
    try:
        start_session(probe, options, provider=provider, provider_options={})
    except _REFUSALS:
        return False
    return True


# The largest byte times the largest weight, twice, does not fit into the 16 bits of such a sum.
_SUMS = """
<ir_version: 8, opset_import: ["": 18]>
sums (uint8[4, 64] x, int8[64, 32] w) => (int32[4, 32] y)
{
    y = MatMulInteger (x, w)
}
"""


@cache
def sums_saturate() -> bool:
    """Whether products of bytes are summed in 16 bits here, which cuts large sums off silently.

    Processors without instructions for sums of four bytes do so.
    """
    probe = onnx.parser.parse_model(_SUMS).SerializeToString()
    options = onnxruntime.SessionOptions()
    session = start_session(probe, options, provider=CPU_PROVIDER, provider_options={})
    given = {"x": numpy.full((4, 64), 255, numpy.uint8), "w": numpy.full((64, 32), 127, numpy.int8)}
    (made,) = session.run(None, given)
    return bool((made != 64 * 255 * 127).any())
