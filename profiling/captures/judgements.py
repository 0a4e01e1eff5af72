"""Whole judgements: functions, or the parts of another engine, against a capture's original."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from profiling.captures.array_libraries import ArrayLibrary, Torch
from profiling.captures.blind_spots import BlindSpots, is_fresh
from profiling.captures.distances import Distance, distance
from profiling.captures.double import InFloat64, Unable, run_call
from profiling.captures.findings import Findings, of_verdicts
from profiling.captures.folder import Call, Capture
from profiling.captures.functions import Arguments, Function, Settings
from profiling.captures.judging import Judge
from profiling.captures.leaves import only_real, without_caches
from profiling.captures.originals import check_same
from profiling.captures.tensor_files import broken
from profiling.engines.transformers.disturbing import disturbed
from profiling.engines.transformers.runtime_decoder import RuntimeDecoder
from profiling.errors import Unsupported
from profiling.graphs.export import Stage
from profiling.graphs.vision_chain import OnnxVision

# Runs of the original with other rounding, for each call of an engine's part.
_DRAWS = 8
# The noise in them: a step of float32, in which graphs are stored or compute.
_STEP = torch.finfo(torch.float32).eps


def judge_functions(
    capture: Capture, network: nn.Module, functions: Mapping[str, Function], library: ArrayLibrary
) -> Findings:
    check_same(capture, network)

    def find(call: Call) -> Function | None:
        return functions.get(capture.kind(call))

    judge = _make_judge(capture, network, find, library)
    verdicts = judge.judge_all()
    blind = BlindSpots(capture, judge.exact, lambda call: find(call) is not None).find()
    return of_verdicts(capture, verdicts, blind, fresh=is_fresh(network), kinds=functions)


def _make_judge(capture: Capture, network: nn.Module, find: Any, library: ArrayLibrary) -> Judge:
    try:
        return Judge(capture=capture, network=network, find=find, library=library)
    except Unable as error:
        raise Unsupported(f"cannot be judged: {error}") from error


class _AsTheyAre(Torch):
    """Arguments for modules: caches and outputs stay what they are."""

    no_float64 = "the engine's parts are judged by their rounding alone: they have no float64"
    takes_subclasses = False
    mutable = keeps_dtypes = False  # a module writes into its cache
    skips_other_shapes = True  # a part may leave outputs unmade that its network never reads

    def convert(self, value: Any) -> Any:
        return value


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An engine's module, and the parts of the original whose work it does besides."""

    function: Function
    # Of a network and a call's arguments and outputs: what the joined parts give.
    joined: Callable[[nn.Module, dict[str, Any], Mapping[str, Tensor]], dict[str, Tensor]] | None


class _PartJudge(Judge):
    """Compares with joined parts where the engine has joined them."""

    def __init__(self, *, parts: Mapping[str, _Part], original: nn.Module, **given: Any) -> None:
        super().__init__(network=original, **given)
        self._parts, self._original = parts, original
        self._disturbed: dict[int, Sequence[Mapping[str, Tensor]]] = {}

    def references(self, call: Call) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        exact, captured = super().references(call)
        joined = self._parts[call.module].joined
        if joined is None:
            return exact, captured
        with torch.inference_mode():
            own = joined(self._original, self._named(call), captured)
            with InFloat64(), _made_in_float64():
                wide = joined(self.exact.network, self._named(call, torch.float64), exact)
        return wide, own

    def own_error(
        self, call: Call, path: str, own: Tensor, exact: Tensor, real: Tensor | None
    ) -> Distance:
        """The largest of the original's own and of what other rounding in it would give.

        A whole part adds up thousands of roundings, and those of one call may cancel by chance.
        Another engine that rounds as finely would then be called wrong.
        """
        if call.id not in self._disturbed:
            self._disturbed[call.id] = list(self._disturb(call))
        drawn = [
            distance(only_real(path, outputs[path].cpu(), real), exact)
            for outputs in self._disturbed[call.id]
        ]
        # Beside an error without limits every other one would pass.
        finite = [error for error in drawn if math.isfinite(error.largest)]
        errors = [super().own_error(call, path, own, exact, real), *finite]
        return Distance(
            relative=max(error.relative for error in errors),
            largest=max(error.largest for error in errors),
        )

    def _disturb(self, call: Call) -> Iterator[Mapping[str, Tensor]]:
        """The original's outputs with every module's output rounded at random."""
        module, joined = self._original.get_submodule(call.module), self._parts[call.module].joined
        for seed in range(_DRAWS):
            with disturbed(self._original, _STEP, seed), torch.inference_mode():
                outputs = run_call(self.capture, call, module, device=self.exact.device)
                yield (
                    outputs
                    if joined is None
                    else joined(self._original, self._named(call), outputs)
                )


@contextmanager
def _made_in_float64() -> Iterator[None]:
    """What is made without a dtype is float64, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def judge_parts(capture: Capture, network: nn.Module, engine: Any) -> Findings:
    """Each part of another engine's network on the calls of the same part."""
    paths = _part_paths(capture)
    modules = {
        paths[part]: found[0]
        for part, found in engine.loaded.parts().items()
        if part in paths and len(found) == 1 and _is_other(network, paths[part], found[0])
    }
    # What is left in the place of a part whose work another one does.
    done = {path for path, module in modules.items() if isinstance(module, nn.Identity)}
    head = next((paths["head"] for _ in done & {paths.get("head")}), None)
    parts = {path: _as_part(module, head) for path, module in modules.items() if path not in done}
    if not parts:
        raise Unsupported("no part of this engine is another module than the captured one's")
    silent = {path for path in parts if not getattr(modules[path], "returns_states", True)}
    try:
        judge = _PartJudge(
            parts=parts,
            original=network,
            capture=capture,
            find=lambda call: parts[call.module].function if call.module in parts else None,
            library=_AsTheyAre(),
        )
    except Unable as error:
        raise Unsupported(f"cannot be judged: {error}") from error
    verdicts = [verdict for verdict in judge.judge_all() if verdict.call.module not in silent]
    return of_verdicts(capture, verdicts, [], fresh=False)


def _as_part(module: nn.Module, head: str | None) -> _Part:
    if isinstance(module, OnnxVision):
        return _vision_part(module)
    if isinstance(module, RuntimeDecoder) and head is not None:
        return _Part(function=_logits_of(module), joined=_with_head(head))
    return _Part(function=_as_function(module), joined=None)


_EMBEDDINGS, _LOGITS = "visual embeddings", "logits"


def _vision_part(module: OnnxVision) -> _Part:
    """The vision part up to the embeddings that the language model reads."""
    layout = module.family.layout

    def call(_weights: Any, _settings: Settings, arguments: Arguments) -> Any:
        named = arguments.named()
        given = {"pixel_values": _pixels(named), **layout.tower_inputs(named)}
        return {_EMBEDDINGS: module.chain.run(given)}

    def joined(network: nn.Module, named: dict[str, Any], _: Any) -> dict[str, Tensor]:
        tower = layout.tower(network)
        stage = Stage(tower, 0, len(tower.blocks))
        return {_EMBEDDINGS: stage(_pixels(named), *layout.tower_inputs(named).values())}

    return _Part(function=call, joined=joined)


def _pixels(named: Mapping[str, Any]) -> Tensor:
    """The argument of a vision part that the others describe."""
    pixels: Tensor = next(value for value in named.values() if isinstance(value, Tensor))
    return pixels


def _logits_of(module: nn.Module) -> Function:
    def call(_weights: Any, _settings: Settings, arguments: Arguments) -> Any:
        return {_LOGITS: module(*arguments.args, **arguments.kwargs).last_hidden_state}

    return call


def _with_head(path: str) -> Any:
    """A decoder with the head behind it, at the last position."""

    def joined(network: nn.Module, _: Any, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        states = outputs["last_hidden_state"][:, -1:]
        return {_LOGITS: network.get_submodule(path)(states)}

    return joined


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
