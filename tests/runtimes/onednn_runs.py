"""How far Paddle's static programs are from its dygraph, in a process of its own.

    python -m tests.runtimes.onednn_runs GRAPH

The last line that is printed is a JSON object: the largest differences by what was asked for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy
import onnx

# The lengths of a step in a batch, by the names that exported graphs give their axes.
LENGTHS = {"batch": 2, "new": 1, "past": 8, "total": 9}


def make_feeds(path: Path) -> dict[str, Any]:
    """Noise for every input of a decoder, at position 3 and with nothing hidden."""
    random = numpy.random.default_rng(0)
    feeds = {}
    for value in onnx.load(str(path), load_external_data=False).graph.input:
        kind = value.type.tensor_type
        shape = [axis.dim_value or LENGTHS[axis.dim_param] for axis in kind.shape.dim]
        noise = random.standard_normal(shape).astype(numpy.float32)
        whole = kind.elem_type == onnx.TensorProto.INT64
        feeds[value.name] = numpy.full(shape, 3) if whole else noise * (value.name != "bias")
    return feeds


def main() -> None:
    from profiling.runtimes import paddle as runtime
    from profiling.runtimes.native.compiled_runtime import Counts
    from profiling.runtimes.native.native_graph import NativeGraph
    from profiling.runtimes.native.native_program import NativeProgram
    from profiling.runtimes.native.paddle_adapter import PaddleAdapter
    from profiling.runtimes.runtime import Buckets

    runtime.RUNTIME.prepare_process(device="cpu", threads=1)
    path = Path(sys.argv[1])
    graph, feeds = NativeGraph(path, PaddleAdapter()), make_feeds(path)
    right = NativeProgram(graph, buckets=None).run(feeds)
    found = {}
    for name, onednn, left_out in (
        ("static", False, []),
        ("onednn", True, [runtime.WRONG_PASS]),
        ("onednn with the pass", True, []),
    ):
        program = runtime.StaticProgram(
            graph,
            buckets=Buckets(prompts=16, caches=128),
            counts=Counts(),
            onednn=onednn,
            threads=1,
            left_out=left_out,
        )
        made = program.run(feeds)
        found[name] = max(
            float(numpy.abs(one - other).max()) for one, other in zip(made, right, strict=True)
        )
    print()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
