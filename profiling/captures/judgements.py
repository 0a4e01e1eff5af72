"""Whole judgements: functions, or the parts of another engine, against a capture's original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from profiling.captures.array_libraries import ArrayLibrary, Torch
from profiling.captures.blind_spots import BlindSpots, is_fresh
from profiling.captures.double import Unable
from profiling.captures.findings import Findings, of_verdicts
from profiling.captures.folder import Call, Capture
from profiling.captures.functions import Arguments, Function, Settings
from profiling.captures.judging import Judge
from profiling.captures.leaves import without_caches
from profiling.captures.originals import check_same
from profiling.captures.tensor_files import broken
from profiling.errors import Unsupported


def judge_functions(
    capture: Capture, network: nn.Module, functions: Mapping[str, Function], library: ArrayLibrary
) -> Findings:
    check_same(capture, network)

    def find(call: Call) -> Function | None:
        return functions.get(capture.kind(call))

    judge = _make_judge(capture, network, find, library)
    verdicts = judge.judge_all()
    blind = BlindSpots(capture, judge.exact, lambda call: find(call) is not None).find()
    return of_verdicts(capture, verdicts, blind, fresh=is_fresh(network))


def _make_judge(capture: Capture, network: nn.Module, find: Any, library: ArrayLibrary) -> Judge:
    try:
        return Judge(capture=capture, network=network, find=find, library=library)
    except Unable as error:
        raise Unsupported(f"cannot be judged: {error}") from error


class _AsTheyAre(Torch):
    """Arguments for modules: caches and outputs stay what they are."""

    no_float64 = "the engine's parts are judged by their rounding alone: they have no float64"
    takes_subclasses = False
    skips_other_shapes = True  # a part may leave outputs unmade that its network never reads

    def convert(self, value: Any) -> Any:
        return value


def judge_parts(capture: Capture, network: nn.Module, engine: Any) -> Findings:
    """Each part of another engine's network on the calls of the same part."""
    paths = _part_paths(capture)
    found: dict[str, Function] = {}
    for part, modules in engine.loaded.parts().items():
        if part in paths and len(modules) == 1 and _is_other(network, paths[part], modules[0]):
            found[paths[part]] = _as_function(modules[0])
    if not found:
        raise Unsupported("no part of this engine is another module than the captured one's")
    judge = _make_judge(capture, network, lambda call: found.get(call.module), _AsTheyAre())
    return of_verdicts(capture, judge.judge_all(), [], fresh=False)


def _part_paths(capture: Capture) -> dict[str, str]:
    point = capture.facts.get("point")
    paths = point.get("parts") if isinstance(point, dict) else None
    if not isinstance(paths, dict) or not all(isinstance(p, str) for p in paths.values()):
        raise broken(capture.folder, "it does not say where the parts of its network are")
    return paths


def _is_other(network: nn.Module, path: str, module: nn.Module) -> bool:
    return type(network.get_submodule(path)) is not type(module)


def _as_function(module: nn.Module) -> Function:
    def call(_weights: Any, _settings: Settings, arguments: Arguments) -> Any:
        output = without_caches(module(*arguments.args, **arguments.kwargs))
        return output if isinstance(output, Tensor | dict | list) else list(output)

    return call
