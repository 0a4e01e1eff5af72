"""What the nodes of a graph took, as ONNX Runtime's own profile has it."""

from __future__ import annotations

import ast
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

_NODE, _SUFFIX = "Node", "_kernel_time"
_RUN = "model_run"
# Where the exporter notes the modules that a node comes from, outermost first, and their classes.
_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
# What it notes where it knows no module.
_NO_MODULE = "_empty_nn_module_stack"

# Paths of modules within the graph's own, and their classes.
Modules = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """One call of one node."""

    run: int  # of the graph, from 0
    operator: str
    shapes: str
    modules: Modules
    self_s: float


@dataclass(kw_only=True)
class GraphProfile:
    """The runs of one graph, once watching them has ended."""

    graph: str = ""
    nodes: list[NodeTime] = field(default_factory=list)
    # In Chrome's format; times are microseconds since `began_ns`, in nanoseconds of the epoch.
    events: list[dict[str, Any]] = field(default_factory=list)
    began_ns: int = 0

    def read(self, written: Path, *, graph: Path, began_ns: int) -> None:
        """Take over what the runtime wrote of runs of a graph."""
        content = json.loads(written.read_text(encoding="utf-8"))
        runs = sorted(event["ts"] for event in content if event["name"] == _RUN)
        events = [event for event in content if _is_node(event) and runs]
        self.graph, self.began_ns = graph.name, began_ns
        self.events = [_shown(event) for event in events]
        known = _modules_by_node(graph)
        for event, own in _own_times(events):
            self.nodes.append(
                NodeTime(
                    run=max(0, bisect_right(runs, event["ts"]) - 1),
                    operator=event["args"]["op_name"],
                    shapes=_shapes_of(event),
                    modules=_find_modules(event["name"].removesuffix(_SUFFIX), known),
                    self_s=own * 1e-6,
                )
            )


def _is_node(event: Mapping[str, Any]) -> bool:
    return event["cat"] == _NODE and event["name"].endswith(_SUFFIX)


def _shown(event: Mapping[str, Any]) -> dict[str, Any]:
    args = event["args"]
    told = {"node": event["name"].removesuffix(_SUFFIX), "shapes": _shapes_of(event)}
    return {"name": args["op_name"], "ts": event["ts"], "dur": event["dur"], "args": told}


def _shapes_of(event: Mapping[str, Any]) -> str:
    shapes = [shape for one in event["args"].get("input_type_shape", ()) for shape in one.values()]
    return " ".join(str(shape) for shape in shapes if shape)


def _own_times(events: Sequence[Any]) -> Iterator[tuple[Any, float]]:
    """Each event with its time less that of the nodes of its subgraphs, in microseconds."""
    open_nodes: list[tuple[Any, list[float]]] = []
    found = []
    for event in sorted(events, key=lambda one: (one["ts"], -one["dur"])):
        while open_nodes and _end(open_nodes[-1][0]) <= event["ts"]:
            open_nodes.pop()
        if open_nodes and _end(event) <= _end(open_nodes[-1][0]):
            open_nodes[-1][1].append(event["dur"])
        inner: list[float] = []
        open_nodes.append((event, inner))
        found.append((event, inner))
    return ((event, max(0.0, event["dur"] - sum(inner))) for event, inner in found)


def _end(event: Mapping[str, Any]) -> float:
    return float(event["ts"] + event["dur"])


def _modules_by_node(graph: Path) -> dict[str, Modules]:
    model = onnx.load(str(graph), load_external_data=False)
    return {node.name: _read_modules(node) for node in model.graph.node if node.name}


def _read_modules(node: onnx.NodeProto) -> Modules:
    told = {entry.key: entry.value for entry in node.metadata_props}
    if not {_SCOPES, _CLASSES} <= told.keys():
        return ()
    # The last one is the operation itself.
    paths, kinds = (ast.literal_eval(told[name])[:-1] for name in (_SCOPES, _CLASSES))
    named = [(path, kind.rpartition(".")[2]) for path, kind in zip(paths, kinds, strict=False)]
    return [(path, kind) for path, kind in named if not path.startswith(_NO_MODULE)]


def _find_modules(name: str, known: Mapping[str, Modules]) -> Modules:
    """Those of the node whose name this one begins with: the runtime adds to names what it does."""
    # A number at the end makes it another node.
    added = [found.start() for found in re.finditer(r"/|_(?!\d)", name)]
    for end in (len(name), *reversed(added)):
        if name[:end] in known:
            return known[name[:end]]
    return ()
