"""Two captures of the same run, call by call: where do they part?

Calls are paired by module and number. A call diverges on its own where what enters it is the same
and what leaves it is not; the first such call, in the order in which calls end, is where two
networks part. Where everything is a little off from the start, as with another dtype, the calls
whose error grows most from entering to leaving are what is left to ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from profiling.captures.distances import distance
from profiling.captures.folder import Call, Capture
from profiling.captures.leaves import contents, leaves, only_real, real_rows

# What wrappers around a compiled or dispatched module add to its path.
_WRAPPERS = ("_orig_mod",)
# Arguments and results that are as long as a cache has room.
_OF_CACHES = ("cache", "past_key_values", "past_key_value", "attention_mask", "mask")


@dataclass(frozen=True, kw_only=True)
class Parting:
    """A call that both captures have: relative errors of what enters it and what leaves it."""

    call: Call
    kind: str
    entering: float
    leaving: float

    @property
    def has_other_inputs(self) -> bool:
        """Whether other shapes enter it, or whole numbers that differ."""
        return self.entering == math.inf

    @property
    def growth(self) -> float:
        if not self.leaving or self.has_other_inputs:
            return 0.0
        return self.leaving / self.entering if self.entering else math.inf


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Every pair in the order in which calls end, and the calls of each that have no partner."""

    pairs: list[Parting]
    unpaired: list[Call]
    only_other: list[Call]
    tolerance: float

    @property
    def apart(self) -> list[Parting]:
        return [pair for pair in self.pairs if not pair.leaving <= self.tolerance]

    @property
    def origins(self) -> list[Parting]:
        """The innermost calls that are the same on entering and not on leaving."""
        found = [pair for pair in self.apart if pair.entering <= self.tolerance]
        parents = self._parents
        around = {above for pair in found for above in parents[pair.call.id]}
        return [pair for pair in found if pair.call.id not in around]

    @property
    def first(self) -> Parting | None:
        """The call that began first."""
        return min(self.pairs, key=lambda pair: pair.call.id, default=None)

    @property
    def _parents(self) -> dict[int, list[int]]:
        above = {pair.call.id: pair.call.parent for pair in self.pairs}
        chains: dict[int, list[int]] = {}
        for one in above:
            chain, parent = [], above[one]
            while parent is not None:
                chain.append(parent)
                parent = above.get(parent)
            chains[one] = chain
        return chains


def compare(one: Capture, other: Capture, *, tolerance: float) -> Divergence:
    partners = {_key(call): call for call in other.calls}
    pairs, unpaired = [], []
    for call in _in_order_of_ends(one):
        partner = partners.get(_key(call))
        if partner is None:
            unpaired.append(call)
        else:
            pairs.append(_pair(one, call, other, partner))
    known = {_key(call) for call in one.calls}
    only_other = [call for call in other.calls if _key(call) not in known]
    return Divergence(pairs=pairs, unpaired=unpaired, only_other=only_other, tolerance=tolerance)


def _key(call: Call) -> tuple[str, int]:
    path = ".".join(step for step in call.module.split(".") if step not in _WRAPPERS)
    return path, call.number


def _in_order_of_ends(capture: Capture) -> list[Call]:
    """What is inside of a call ends before it."""
    children: dict[int | None, list[Call]] = {}
    for call in capture.calls:
        known = call.parent if call.parent in capture.by_id else None
        children.setdefault(known, []).append(call)
    ordered: list[Call] = []
    waiting = [(call, False) for call in reversed(children.get(None, []))]
    while waiting:
        call, entered = waiting.pop()
        if entered:
            ordered.append(call)
            continue
        waiting.append((call, True))
        waiting += [(inner, False) for inner in reversed(children.get(call.id, []))]
    return ordered


def _pair(one: Capture, call: Call, other: Capture, partner: Call) -> Parting:
    names = one.modules[call.module]["parameters"]
    # The caller is the same, whatever a replaced module calls what it is passed by position.
    mine, theirs = (
        {**dict(zip(names, args, strict=False)), **kwargs}
        for args, kwargs in (one.arguments(call), other.arguments(partner))
    )
    real = real_rows(mine)
    leaving = _worst(
        {"output": one.output(call), "cache": _first(one.caches_after(call))},
        {"output": other.output(partner), "cache": _first(other.caches_after(partner))},
        real,
    )
    entering = _worst(mine, theirs, real)
    kind = one.kind(call)
    return Parting(call=call, kind=kind, entering=entering, leaving=leaving)


def _first(caches: Mapping[str, Any]) -> Any:
    cache = next(iter(caches.values()), None)
    return contents(cache) if isinstance(cache, Cache) else cache


def _worst(mine: Any, theirs: Any, real: Tensor | None) -> float:
    """The largest relative error of any tensor; whole numbers are the same or infinitely apart."""
    wanted, found = dict(leaves(mine)), dict(leaves(theirs))
    errors = [_error(path, wanted[path], found[path], real) for path in wanted if path in found]
    # Nothing in common is no agreement.
    return max(errors, default=math.inf if wanted or found else 0.0)


def _error(path: str, wanted: Tensor, found: Tensor, real: Tensor | None) -> float:
    if wanted.ndim == found.ndim == 4 and path.partition(".")[0] in _OF_CACHES:
        wanted, found = _cut_alike(wanted, found)
    if wanted.shape != found.shape:
        return math.inf
    short = path.removeprefix("output.") if path != "output" else ""
    a, b = only_real(short, found, real), only_real(short, wanted, real)
    if wanted.is_floating_point() and found.is_floating_point():
        return distance(a, b).relative
    return 0.0 if torch.equal(a.double(), b.double()) else math.inf


def _cut_alike(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Caches of a fixed length, and masks over them, as far as both reach."""
    rows, columns = (min(one.shape[i], other.shape[i]) for i in (2, 3))
    return one[:, :, :rows, :columns], other[:, :, :rows, :columns]
