"""What a capture cannot show: weights, settings and cases that may be wrong in every call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from profiling.captures.branches import LinesTaken
from profiling.captures.distances import distance
from profiling.captures.double import Float64Network, Unable, replaced
from profiling.captures.folder import Call, Capture
from profiling.captures.judging import FORMULA
from profiling.captures.leaves import leaves, only_real, real_rows

# Of a module's calls, so many are tried before a value is taken to be without effect.
_TRIED = 3
# Of a class of modules, so many calls are run line by line.
_TRACED = 40
# From this share of norms at one and biases at zero on, nothing was trained.
_FRESH = 0.9


@dataclass(frozen=True, kw_only=True)
class BlindSpot:
    """One thing that may be wrong without any captured call showing it."""

    subject: str  # "module", "weight", "setting", "case", "branch"
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject} {self.name}: {self.reason}"


class BlindSpots:
    """Looks for blind spots of calls of the judged modules, with the original in float64."""

    def __init__(
        self, capture: Capture, exact: Float64Network, is_judged: Callable[[Call], bool]
    ) -> None:
        self._capture, self._exact = capture, exact
        self._calls: dict[str, list[Call]] = {}
        for call in filter(is_judged, capture.calls):
            self._calls.setdefault(call.module, []).append(call)

    def find(self) -> list[BlindSpot]:
        spots = [*self.modules(), *self.weights(), *self.settings(), *self.cases()]
        return [*spots, *self.branches()]

    # Values that could be others

    def weights(self) -> Iterator[BlindSpot]:
        """Weights that could be neutral (nothing added, nothing scaled) and no call would tell."""
        outside = []
        for name, weight in _stored_weights(self._exact.network):
            path = name.rpartition(".")[0]
            calls = self._around(path)
            if calls:
                reason = self._why_hidden(name, weight, calls)
            elif self._is_in_scope(path):
                reason = "no judged module that was called contains it"
            else:
                reason = None
                outside.append(name)
            if reason is not None:
                yield BlindSpot(subject="weight", name=name, reason=reason)
        if outside:
            told = f"and {len(outside) - 1} other weights are in no module of a judged class"
            yield BlindSpot(subject="weight", name=outside[0], reason=told)

    def settings(self) -> Iterator[BlindSpot]:
        """Numbers that a class of modules computes by, of which another would do as well."""
        seen: set[tuple[str, str]] = set()
        for path, calls in self._calls.items():
            module = self._exact.network.get_submodule(path)
            for name, value in self._capture.modules[path]["settings"].items():
                key = (type(module).__name__, name)
                if not _is_computed_with(name, value) or key in seen:
                    continue
                seen.add(key)
                if not self._shows(calls, _set(module, name, 2 * value or 1.0)):
                    told = f"with {2 * value or 1.0:g} for {value:g} every call gives the same"
                    yield BlindSpot(subject="setting", name=".".join(key), reason=told)

    def _why_hidden(self, name: str, weight: Tensor, calls: Sequence[Call]) -> str | None:
        """Why calls would not show another value of a weight; None where they would."""
        neutral = neutral_like(name, weight)
        if torch.equal(neutral, weight):
            return f"all its values are {neutral.flatten()[0]:g}, as if it were not there"
        if not self._shows(calls, replaced(weight, neutral)):
            return "without it every captured call gives the same result"
        return None

    def _is_in_scope(self, path: str) -> bool:
        """Whether a module of a judged class is at the path or around it."""
        kinds = {self._capture.modules[judged]["class"] for judged in self._calls}
        steps = path.split(".")
        around = (".".join(steps[:count]) for count in range(len(steps) + 1))
        return any(self._capture.modules[p]["class"] in kinds for p in around)

    def _around(self, path: str) -> list[Call]:
        """The calls of the nearest judged module that a weight belongs to."""
        while path not in self._calls and path:
            path = path.rpartition(".")[0]
        return self._calls.get(path, [])

    def _shows(self, calls: Sequence[Call], changed: Any) -> bool:
        # Before the change, since the results are kept.
        wanted = [(call, self._outputs(call)) for call in calls[:_TRIED]]
        with changed:
            return any(out is None or self._differs(call, out) for call, out in wanted)

    def _outputs(self, call: Call) -> dict[str, Tensor] | None:
        """None where the original cannot be run, which is told with the verdicts."""
        try:
            return self._exact.outputs(call)
        except Unable:
            return None

    def _differs(self, call: Call, wanted: Mapping[str, Tensor]) -> bool:
        try:
            found = self._exact.run(call, self._exact.network.get_submodule(call.module))
        except Unable:
            return True
        real = real_rows(self._named(call))
        return any(
            # Compared so that nan differs.
            not distance(only_real(p, found[p], real), only_real(p, t, real)).relative <= FORMULA
            for p, t in wanted.items()
            if t.is_floating_point()
        )

    def _named(self, call: Call) -> dict[str, Any]:
        args, kwargs = self._capture.arguments(call)
        names = self._capture.modules[call.module]["parameters"]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    # Modules and cases that no call has to do with

    def modules(self) -> Iterator[BlindSpot]:
        """Modules of a judged class that are in no captured call themselves."""
        kinds = {self._capture.modules[path]["class"] for path in self._calls}
        for path, module in self._capture.modules.items():
            if module["class"] in kinds and path not in self._calls:
                told = f"a {module['class']} of which no call was captured"
                yield BlindSpot(subject="module", name=path, reason=told)

    def cases(self) -> Iterator[BlindSpot]:
        seen = _Cases()
        # Also of modules around the judged ones: they are told of masks that those get as sums.
        for call in self._capture.calls:
            seen.look(call, self._named(call))
        for name, reason in seen.missing():
            yield BlindSpot(subject="case", name=name, reason=reason)

    def branches(self) -> Iterator[BlindSpot]:
        """Branches of the code of judged modules that no captured call takes."""
        taken, tried = LinesTaken(), Counter[str]()
        for path, calls in self._calls.items():
            module = self._exact.network.get_submodule(path)
            taken.watch(module)
            for call in calls:
                kind = type(module).__name__
                tried[kind] += 1
                if tried[kind] <= _TRACED:
                    self._trace(taken, call, module)
        for kind, told in taken.untaken():
            yield BlindSpot(subject="branch", name=kind, reason=told)

    def _trace(self, taken: LinesTaken, call: Call, module: nn.Module) -> None:
        try:
            with taken.noting():
                self._exact.run(call, module)
        except Unable:
            # What could not be run is told with the verdicts.
            return


class _Cases:
    """Which kinds of input were among the calls, as far as their arguments tell."""

    def __init__(self) -> None:
        self._possible: dict[str, str] = {}
        self._seen: set[str] = set()
        self._stretches: dict[int | None, set[tuple[int, ...]]] = {}

    def look(self, call: Call, named: Mapping[str, Any]) -> None:
        for name, value in named.items():
            if name in ("attention_mask", "mask"):
                padded = any(t.ndim == 2 and not t.all() for _, t in leaves(value))
                told = "no call has padding in its batch"
                self._note("padding", told, padded or real_rows(named) is not None)
            if name in ("input_ids", "attention_mask", "inputs_embeds"):
                rows = any(t.ndim > 1 and len(t) > 1 for _, t in leaves(value))
                self._note("batch", "no call has a batch of several rows", rows)
            if "grid_thw" in name or name == "pixel_values":
                several = isinstance(value, Tensor) and len(value) > 1
                told = "no call has several pictures"
                self._note("pictures", told, several and ("grid" in name or value.ndim > 3))
            if name in ("past_key_values", "past_key_value"):
                filled = any(True for _ in leaves(value))
                self._note("prefill", "no call begins with an empty cache", not filled)
                self._note("decoding", "no call begins with a filled cache", filled)
            if name == "cu_seqlens" and isinstance(value, Tensor):
                self._look_at_stretches(call, value.diff())

    def _look_at_stretches(self, call: Call, lengths: Tensor) -> None:
        kinds = self._stretches.setdefault(call.parent, set())
        kinds.add(tuple(lengths.tolist()))
        told = "all calls attend within the same stretches: windows and whole pictures are not both"
        self._note("full attention and windows", f"{told} there", len(kinds) > 1)
        told = "in no call are the stretches of attention of different lengths"
        self._note("padded windows", told, len(set(lengths.tolist())) > 1)

    def _note(self, name: str, reason: str, seen: bool) -> None:
        self._possible[name] = reason
        if seen:
            self._seen.add(name)

    def missing(self) -> list[tuple[str, str]]:
        return [(n, reason) for n, reason in self._possible.items() if n not in self._seen]


def _stored_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and those buffers that a checkpoint has, such as the averages of batch norms."""
    for name, parameter in network.named_parameters():
        yield name, parameter.detach()
    stored = network.state_dict().keys()
    for name, buffer in network.named_buffers():
        if name in stored and buffer.is_floating_point():
            yield name, buffer.detach()


def neutral_like(name: str, value: Tensor) -> Tensor:
    """The value of a weight that does nothing: a scale of one, else nothing added."""
    is_scale = value.ndim == 1 and name.endswith(("weight", "running_var"))
    return torch.ones_like(value) if is_scale else torch.zeros_like(value)


def is_fresh(network: nn.Module) -> bool:
    """Whether scales are all one and biases all zero, as only an untrained network has them."""
    vectors = [
        torch.equal(neutral_like(name, parameter), parameter)
        for name, parameter in network.named_parameters()
        if parameter.ndim == 1
    ]
    return bool(vectors) and sum(vectors) >= _FRESH * len(vectors)


def _is_computed_with(name: str, value: Any) -> bool:
    """A number with a fraction; that of a dropout has no part in evaluation."""
    return isinstance(value, float) and "drop" not in name and name != "p"


@contextmanager
def _set(module: nn.Module, name: str, value: float) -> Iterator[None]:
    old = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, old)
