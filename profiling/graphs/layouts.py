"""Rewrites exported graphs: joins a chain into one graph, and simplifies graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto

# The limit of a protobuf message; the simplifier serializes the weights in one.
_LARGEST_BYTES = 2**31 - 1
# Smaller tensors stay in the graph, since shapes are computed from some of them.
SMALL_BYTES = 1024


class TooLarge(RuntimeError):
    """A file is too large for a tool; the message says what to do."""


def merge_parts(files: Sequence[Path], target: Path) -> Path:
    """Join a chain into one graph that reads its weights from the files of the parts."""
    merged, *others = [onnx.load(str(path), load_external_data=False) for path in files]
    _rename(merged, "part1/", keep=_inputs(merged))
    for number, other in enumerate(others, start=2):
        handed = other.graph.input[0].name
        _rename(other, f"part{number}/", keep=_inputs(other) - {handed})
        _append(merged.graph, other.graph, joint=f"part{number}/{handed}")
    final = merged.graph.output[0].name
    _rename_values(merged.graph, {final: final.rpartition("/")[2]})
    target.write_bytes(merged.SerializeToString())
    return target


def _inputs(model: ModelProto) -> set[str]:
    return {value.name for value in model.graph.input}


def _rename(model: ModelProto, prefix: str, *, keep: set[str]) -> None:
    graph = model.graph
    names = {value.name for value in [*graph.input, *graph.initializer]}
    names |= {name for node in graph.node for name in node.output if name}
    _rename_values(graph, {name: prefix + name for name in names - keep})
    for node in graph.node:
        node.name = prefix + node.name
    # Names of dynamic dimensions mean something else in another part.
    del graph.value_info[:]


def _rename_values(graph: GraphProto, names: Mapping[str, str]) -> None:
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _append(graph: GraphProto, other: GraphProto, *, joint: str) -> None:
    """Append `other`, whose input `joint` is the output of `graph`."""
    _rename_values(other, {joint: graph.output[0].name})
    known = {value.name for value in graph.input}
    graph.input.extend(value for value in other.input[1:] if value.name not in known)
    graph.node.extend(other.node)
    graph.initializer.extend(other.initializer)
    del graph.output[:]
    graph.output.extend(other.output)


def simplify_file(path: Path) -> None:
    """Simplify a graph in place with onnxslim."""
    import onnxslim

    if values_of(path).stat().st_size > _LARGEST_BYTES:
        raise TooLarge(f"{path.name} is too large to simplify: use the layout `parts`")
    save(onnxslim.slim(onnx.load(str(path))), path)


def values_of(path: Path) -> Path:
    """The file with the weights of a graph."""
    return path.with_name(path.name + ".data")


def size_of(path: Path) -> int:
    """Bytes of a graph with its weights; a graph that joins others has none of its own."""
    files = (path, values_of(path), path.with_suffix(".bin"))
    return sum(one.stat().st_size for one in files if one.is_file())


def delete_file(path: Path) -> None:
    """Delete a graph with its weights."""
    for one in (path, values_of(path)):
        one.unlink(missing_ok=True)


def save(model: ModelProto, path: Path) -> None:
    """Write a graph and one file with all its weights; replaces existing files."""
    # Weights would be appended to an existing file.
    delete_file(path)
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location=values_of(path).name,
        size_threshold=SMALL_BYTES,
    )
