"""What runtimes offer, known without importing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# The parts of a model that a runtime may run.
VISION, TEXT = "vision", "decoder"
PARTS = (VISION, TEXT)
# Where the package of each runtime is listed.
REQUIREMENTS: Mapping[str, str] = {
    "onnxruntime": "requirements.txt",
    "openvino": "requirements-openvino.txt",
    "jax": "requirements-jax.txt",
    "paddle": "requirements-paddle.txt",
    "mindspore": "requirements-mindspore.txt",
}
# What a runtime may be told to compute in.
COMPUTED = ("float32", "bfloat16")
# What each runtime reads graphs with weights in.
STORED: Mapping[str, Sequence[str]] = {
    "onnxruntime": ("float32", "float16", "bfloat16", "int8", "int4"),
    "openvino": ("float32", "float16", "bfloat16", "int8", "int4"),
    "jax": ("float32", "float16", "bfloat16"),
    "paddle": ("float32", "float16", "bfloat16"),
    "mindspore": ("float32", "float16", "bfloat16"),
}
# What a runtime stores weights in by itself, in files of its own format.
OWN_FORMATS: Mapping[str, Sequence[str]] = {"openvino": ("int8", "int4")}
# Where a decoder's keys and values are between steps: arrays that are passed, or the runtime's own.
STATEFUL = "stateful"
CACHES = ("passed", STATEFUL)
# How each runs a graph, where it has several ways; the first runs operators one by one.
MODES: Mapping[str, Sequence[str]] = {
    "paddle": ("dygraph", "static"),
    "mindspore": ("pynative", "jit"),
}
# Of these each runs alone in its process: both carry a oneDNN, and one's calls end in the other's.
ALONE = frozenset({"paddle", "mindspore"})
# What they say in lower case where memory does not suffice; their exceptions are of any class.
NO_MEMORY = (
    "failed to allocate memory for requested buffer",  # ONNX Runtime
    "bad allocation",
    "bad_alloc",
    "resource_exhausted",  # JAX
    "resourceexhaustederror",  # Paddle
)
