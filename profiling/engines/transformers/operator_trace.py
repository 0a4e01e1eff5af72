"""One pass under `torch.profiler`: each operator's own time, by phase and by the calling module."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from profiling.engines.operators import OperatorTime, OperatorTrace

if TYPE_CHECKING:
    from profiling.runtimes.graph_profile import GraphProfile

_SCOPE = "module: "
_OUTSIDE = "outside of operators: Python and other libraries"
# What the name or the class of a module says about what it does; the first that fits counts.
_KINDS = (
    ("norm", re.compile(r"norm|^ln_?\d*$")),
    ("attention", re.compile(r"rotary|rope")),
    ("embedding", re.compile(r"embed|^wte$|^wpe$")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|ffn|feed_?forward|^fc\d*$|densere(lu|act)dense")),
)
# Phases by part; a part that is called again after its first call works for the decoding.
_REPEATED = frozenset({"language", "head"})
# Phase, operator, shapes, module and layer.
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """A module as the trace names it."""

    path: str
    part: str | None
    layer: str


def trace_operators(
    network: nn.Module,
    parts: Mapping[str, Sequence[nn.Module]],
    device: torch.device,
    run: Callable[[], None],
) -> OperatorTrace:
    """Run once under the profiler, with every module of the network marked.

    What a runtime runs as a graph is under the runtime's own profiler meanwhile.
    """
    scopes = _list_scopes(network, parts)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    on_gpu = device.type == "cuda"
    with ExitStack() as opened:
        # On a GPU the runtime's profiler knows when a node was launched, and not how long it took.
        profiles = {} if on_gpu else _profile_graphs(network, opened)
        with (
            _marked(network, scopes),
            profile(activities=activities, record_shapes=True) as recorded,
        ):
            run()
    operators = list(_collect(recorded.events(), scopes, on_gpu=on_gpu))
    graphs = [name for each in profiles.values() for name in each]
    inside = "; in graphs ONNX Runtime's profile" if graphs else ""
    own = "kernel time" if on_gpu else "own CPU time"
    return OperatorTrace(
        operators=_with_graphs(operators, profiles, scopes),
        chrome=_add_graphs(_read_chrome(recorded), profiles),
        source=f"torch.profiler, {own}{inside}, one pass more",
    )


def _read_chrome(recorded: profile) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        recorded.export_chrome_trace(str(path))
        return path.read_bytes()


# Graphs

Profiles = Mapping[str, "Sequence[GraphProfile]"]


def _profile_graphs(network: nn.Module, opened: ExitStack) -> Profiles:
    """The profiles of what runs as graphs, by the path of the module; filled when it is closed."""
    found = {}
    for path, module in network.named_modules():
        profiled = getattr(module, "profiled", None)
        if profiled is not None:
            found[path] = opened.enter_context(profiled())
    return found


def _with_graphs(
    operators: Sequence[OperatorTime], profiles: Profiles, scopes: Mapping[str, _Scope]
) -> list[OperatorTime]:
    """The operators with the nodes of graphs in the place of the time outside of operators."""
    nodes: list[OperatorTime] = []
    known: dict[tuple[str, str], float] = defaultdict(float)
    for path, each in profiles.items():
        for one in _list_nodes(path, each, scopes[path]):
            nodes.append(one)
            known[one.phase, _star(path)] += one.self_s
    found = []
    for one in operators:
        inside = known[one.phase, one.module] if one.operator == _OUTSIDE else 0.0
        found.append(replace(one, self_s=max(0.0, one.self_s - inside)))
    return sorted([*found, *nodes], key=lambda one: -one.self_s)


def _list_nodes(
    path: str, profiles: Sequence[GraphProfile], scope: _Scope
) -> Iterator[OperatorTime]:
    calls: dict[Key, int] = defaultdict(int)
    seconds: dict[Key, float] = defaultdict(float)
    for node in (node for each in profiles for node in each.nodes):
        inner = node.modules[-1][0] if node.modules else ""
        place = _star("/".join(filter(None, (path, inner))))
        phase = _phase_of(node.run, scope)
        key = (phase, node.operator, node.shapes, place, _layer_of(node.modules))
        calls[key] += 1
        seconds[key] += node.self_s
    yield from _sum_up(calls, seconds)


def _phase_of(run: int, scope: _Scope) -> str:
    if scope.part in _REPEATED:
        return "decode" if run else "prefill"
    return "prefill" if scope.part == "text_encoder" else scope.part or "other"


def _layer_of(modules: Sequence[tuple[str, str]]) -> str:
    """That of the innermost module which tells what it does."""
    layer = "other"
    for path, kind in modules:
        if path == "head":
            return "head"
        named = name_layer(path, kind)
        layer = layer if named == "other" else named
    return layer


def _add_graphs(chrome: bytes, profiles: Profiles) -> bytes:
    """The nodes of graphs as further rows of the trace, one for each graph."""
    graphs = [(path, each) for path, several in profiles.items() for each in several]
    if not graphs:
        return chrome
    content = json.loads(chrome)
    base_ns = int(content.get("baseTimeNanoseconds", 0))
    for path, each in graphs:
        row = {"pid": "graphs", "tid": f"{path}: {each.graph}", "ph": "X", "cat": "graph_node"}
        begun_us = (each.began_ns - base_ns) / 1e3
        content["traceEvents"] += [
            {**row, **event, "ts": begun_us + event["ts"]} for event in each.events
        ]
    return json.dumps(content).encode()


# Modules


def _list_scopes(network: nn.Module, parts: Mapping[str, Sequence[nn.Module]]) -> dict[str, _Scope]:
    part_of = {id(module): name for name, modules in parts.items() for module in modules}
    found: dict[str, _Scope] = {}
    for path, module in network.named_modules():
        parent = found.get(path.rpartition(".")[0])
        part = part_of.get(id(module)) or (parent.part if parent else None)
        layer = "head" if part == "head" else name_layer(path, type(module).__name__)
        if layer == "other" and parent is not None:
            layer = parent.layer
        found[path] = _Scope(path=path, part=part, layer=layer)
    return found


def name_layer(path: str, kind: str) -> str:
    """What a module does, by its own name and the name of its class."""
    names = (path.rpartition(".")[2].lower(), kind.lower())
    for layer, pattern in _KINDS:
        if any(pattern.search(name) for name in names):
            return layer
    return "other"


@contextmanager
def _marked(network: nn.Module, scopes: Mapping[str, _Scope]) -> Iterator[None]:
    """Each call of a module is a scope of the trace."""
    running: list[Any] = []

    def enter(path: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            scope = record_function(_SCOPE + path)
            scope.__enter__()
            running.append(scope)

        return begin

    def leave(*_: Any) -> None:
        running.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if path in scopes:
                for handle in (
                    module.register_forward_pre_hook(enter(path)),
                    module.register_forward_hook(leave, always_call=True),
                ):
                    hooks.callback(handle.remove)
        yield


# Events


def _collect(
    events: Sequence[Any], scopes: Mapping[str, _Scope], *, on_gpu: bool
) -> Iterator[OperatorTime]:
    phases = _Phases(events, scopes)
    calls: dict[Key, int] = defaultdict(int)
    seconds: dict[Key, float] = defaultdict(float)
    for event in events:
        own_s = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) * 1e-6
        if own_s <= 0 or not _is_operator_or_scope(event):
            continue
        scope = _find_scope(event, scopes)
        key = _name(event, scope, phases.find(event, scope))
        calls[key] += 1
        seconds[key] += own_s
    yield from _sum_up(calls, seconds)


def _sum_up(calls: Mapping[Key, int], seconds: Mapping[Key, float]) -> Iterator[OperatorTime]:
    for key, own_s in sorted(seconds.items(), key=lambda item: -item[1]):
        phase, operator, shapes, module, layer = key
        yield OperatorTime(
            phase=phase,
            operator=operator,
            shapes=shapes,
            module=module,
            layer=layer,
            calls=calls[key],
            self_s=own_s,
        )


def _is_operator_or_scope(event: Any) -> bool:
    # Kernels are listed too, and their time stands with the operators that launched them.
    return "::" in event.name or event.name.startswith(_SCOPE)


def _name(event: Any, scope: _Scope | None, phase: str) -> Key:
    is_scope = event.name.startswith(_SCOPE)
    shapes = [shape for shape in event.input_shapes or () if shape]
    return (
        phase,
        _OUTSIDE if is_scope else event.name,
        "" if is_scope else " ".join(str(shape) for shape in shapes),
        _star(scope.path) if scope else "",
        scope.layer if scope else "other",
    )


def _star(path: str) -> str:
    """The same path for every layer."""
    return re.sub(r"\b\d+\b", "*", path)


def _find_scope(event: Any, scopes: Mapping[str, _Scope]) -> _Scope | None:
    """The innermost module that an event happened in."""
    while event is not None:
        if event.name.startswith(_SCOPE):
            return scopes[event.name.removeprefix(_SCOPE)]
        event = event.cpu_parent
    return None


class _Phases:
    """The phase of each event: that of its module's part, and outside of parts that of its time."""

    def __init__(self, events: Sequence[Any], scopes: Mapping[str, _Scope]) -> None:
        heads = sorted(
            (event.time_range.start, event.time_range.end)
            for event in events
            if event.name.startswith(_SCOPE)
            and scopes[event.name.removeprefix(_SCOPE)].part == "head"
        )
        # The prefill ends with the first call of the head.
        self._prefilled = heads[0][1] if heads else float("inf")

    def find(self, event: Any, scope: _Scope | None) -> str:
        is_later = bool(event.time_range.start >= self._prefilled)
        part = scope.part if scope else None
        if part in _REPEATED:
            return "decode" if is_later else "prefill"
        if part is not None:
            return "prefill" if part == "text_encoder" else part
        return "decode" if is_later else "other"
