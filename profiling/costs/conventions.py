"""Conventions by which papers and tools state FLOPs, as arithmetic that adds up to their figures.

Published figures of one model differ by a factor of 80, because each source counts something else.
A convention says what: multiply-adds or operations, one layer or all, how many matrices of the
feed-forward part, which tokens, the head at which positions, and whether projector, vision part
and decoding are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from profiling.errors import ConfigError
from profiling.models import analytic
from profiling.models.costs import HEAD, FamilyCosts
from profiling.models.geometry import Geometry

FLOP, MAC = "FLOP", "MAC"
Tokens = Literal["prompt", "visual"]


class Entry(NamedTuple):
    """A line of the ledger."""

    phase: str
    what: str
    formula: str
    amount: float


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a count is made from: a family's arithmetic and the shape of a generation."""

    costs: FamilyCosts
    geometry: Geometry
    visual_tokens: tuple[int, ...]  # of each row of the batch
    has_projector: bool
    left_out: frozenset[str] = frozenset()  # phases that are not computed


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a source counts; `entries` gives its lines, which add up to its figure."""

    name: str
    unit: str
    says: str
    used_by: str
    entries: Callable[[Counted], Iterator[Entry]]

    def lines(self, counted: Counted) -> list[Entry]:
        return [one for one in self.entries(counted) if one.phase not in counted.left_out]

    def total(self, counted: Counted) -> float:
        return sum(entry.amount for entry in self.lines(counted))


def _exactly(counted: Counted) -> Iterator[Entry]:
    """Every matrix product that a generation computes, a multiply-add as two operations."""
    costs, geometry = counted.costs, counted.geometry
    yield Entry("vision", "vision part", "", costs.vision_flops(geometry))
    if counted.has_projector:
        yield Entry("projector", "projector", "", costs.projector_flops(geometry))
    for what, flops in costs.prefill_terms(geometry).items():
        yield Entry("prefill", what, _FORMULAS.get(what, ""), flops)
    steps = range(1, geometry.new_tokens)
    if steps:
        flops = sum(costs.decode_step_flops(geometry, step) for step in steps)
        yield Entry("decode", f"{len(steps)} steps", "", flops)


_FORMULAS = {
    analytic.QUERY_OUTPUT: "2 · 2ndq",
    analytic.KEY_VALUE: "2 · 2ndk",
    analytic.ATTENTION: "2 · 2n²q",
    analytic.FEED_FORWARD: "2 · matrices · ndm",
    HEAD: "2 · dV, last position",
}


def _halved(counted: Counted) -> Iterator[Entry]:
    for entry in _exactly(counted):
        formula = entry.formula.removeprefix("2 · ")
        yield entry._replace(amount=entry.amount / 2, formula=formula)


def _by_module(counted: Counted) -> Iterator[Entry]:
    """The prefill with the head at every position, and the projector."""
    costs, geometry = counted.costs, counted.geometry
    if counted.has_projector:
        yield Entry("projector", "projector", "", costs.projector_flops(geometry))
    for what, flops in costs.prefill_terms(geometry).items():
        if what != HEAD:
            yield Entry("prefill", what, _FORMULAS.get(what, ""), flops)
    # The text encoder of an encoder-decoder has no head, and its decoder reads one token.
    decoder_only = costs.reading_stack is costs.decoder_stack
    positions = _last_length(counted) if decoder_only else 1
    yield Entry("prefill", HEAD, "2 · ndV, every position", positions * costs.head_flops(geometry))


def _last_length(counted: Counted) -> int:
    _, length = counted.geometry.stages(counted.costs.decoder_stack.layers)[-1]
    return length


def _published(
    *, tokens: Tokens, matrices: int, one_layer: bool
) -> Callable[[Counted], Iterator[Entry]]:
    """4nd² + 2n²d + `matrices`·ndm, in multiply-adds: no head, no vision part, no decoding.

    Key and value projections are taken as wide as the model, as the formula does.
    """

    def entries(counted: Counted) -> Iterator[Entry]:
        stack = counted.costs.reading_stack
        d, m = stack.width, stack.inner_width
        share = stack.layers if one_layer else 1
        products: dict[tuple[str, str], Callable[[int], int]] = {
            ("query, key, value and output", "4nd²"): lambda n: 4 * n * d**2,
            (analytic.ATTENTION, "2n²d"): lambda n: 2 * n**2 * d,
            (analytic.FEED_FORWARD, f"{matrices}ndm"): lambda n: matrices * n * d * m,
        }
        lengths = list(_lengths(counted, tokens))
        for (what, formula), product in products.items():
            amount = sum(layers * product(n) for layers, n in lengths)
            yield Entry("prefill", what, formula, amount / share)

    return entries


def _lengths(counted: Counted, tokens: Tokens) -> Iterator[tuple[int, int]]:
    """Numbers of layers with the tokens in them, for every row of the batch."""
    geometry = counted.geometry
    whole, *cut = geometry.stages(counted.costs.reading_stack.layers)
    for row, visual in enumerate(counted.visual_tokens):
        yield whole[0], visual if tokens == "visual" else whole[1]
        for layers, length in cut:
            yield layers, geometry.kept_visual(row, visual) if tokens == "visual" else length


EXACT = "exact"
CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention(
            name=EXACT,
            unit=FLOP,
            says="every matrix product of all phases, a multiply-add as two operations;"
            " feed-forward and key/value widths as the model has them; the head at the last"
            " position only",
            used_by="this project's records",
            entries=_exactly,
        ),
        Convention(
            name="macs",
            unit=MAC,
            says="the multiply-adds of exactly the same products: half of exact",
            used_by="fvcore, ptflops, thop; papers that call multiply-adds FLOPs",
            entries=_halved,
        ),
        Convention(
            name="fastv",
            unit=MAC,
            says="multiply-adds of one layer (the mean one where tokens are dropped) over all"
            " prompt tokens n: 4nd² + 2n²d + 2ndm, two matrices in the feed-forward part; no head,"
            " no vision part, no projector, no decoding",
            used_by="FastV",
            entries=_published(tokens="prompt", matrices=2, one_layer=True),
        ),
        Convention(
            name="fastv_all",
            unit=MAC,
            says="the same formula over all layers",
            used_by="papers that sum the formula over the layers",
            entries=_published(tokens="prompt", matrices=2, one_layer=False),
        ),
        Convention(
            name="pyramiddrop",
            unit=MAC,
            says="multiply-adds of all layers over the visual tokens n alone: 4nd² + 2n²d + 3ndm;"
            " no text, no head, no vision part, no projector, no decoding",
            used_by="PyramidDrop, and papers that compare with its 3.82 T",
            entries=_published(tokens="visual", matrices=3, one_layer=False),
        ),
        Convention(
            name="calflops",
            unit=FLOP,
            says="the prefill's matrix products, a multiply-add as two operations, the head at"
            " every position, and the projector; no vision part, no decoding",
            used_by="papers that run calflops on the language model",
            entries=_by_module,
        ),
    )
}


def find_convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        allowed = f"allowed is one of {', '.join(CONVENTIONS)}"
        raise ConfigError("convention", name, allowed)
    return CONVENTIONS[name]
