"""A decoder's graph with its keys and values as the state of a request, in OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openvino
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation

PAST, _PRESENT = "past_", "present_"
# Every family's decoder has it, and its first axis is the batch.
_EMBEDDINGS = "inputs_embeds"


def make_stateful(graph: openvino.Model, past: Sequence[str]) -> None:
    """Turn each input `past_…` and output `present_…` into a state of that input's name."""
    pairs = {name: present_of(name) for name in past}
    apply_make_stateful_transformation(graph, pairs)
    batch = _batch_of(graph)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue" and node.get_input_size() == 0:
            node.set_arguments([_empty(node, batch).output(0)])
    graph.validate_nodes_and_infer_types()


def present_of(name: str) -> str:
    """The output that becomes an input of the next step."""
    return _PRESENT + name.removeprefix(PAST)


def _batch_of(graph: openvino.Model) -> Any:
    shape = opset13.shape_of(graph.input(_EMBEDDINGS), "i64")
    return opset13.gather(shape, _whole([0]), _whole(0))


def _empty(node: Any, batch: Any) -> Any:
    """What a state is before the first token: no tokens, in as many rows as the embeddings have."""
    shape = node.get_output_partial_shape(0)
    heads, width = (shape[axis].get_length() for axis in (1, 3))
    wanted = opset13.concat([batch, _whole([heads, 0, width])], 0)
    return opset13.broadcast(opset13.constant(0.0, openvino.Type.f32), wanted)


def _whole(values: Any) -> Any:
    return opset13.constant(values, openvino.Type.i64)
