"""Conventions against published figures of LLaVA-1.5-7B, and against the count of this project."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from profiling.costs.conventions import CONVENTIONS, Counted, find_convention
from profiling.costs.twin import analytic_by_phase
from profiling.engines.transformers.optimizations.token_pruning import TokenPruning
from profiling.errors import ConfigError
from profiling.models.family import Family
from profiling.models.geometry import Cut, Geometry
from profiling.models.loading import load_family
from profiling.models.weights import locate
from tests.tiny_models import FAMILIES, compose_point

VISUAL = 576


@cache
def read_family(name: str, weights: str) -> Family:
    point = compose_point(f"model={name}", f"weights={weights}")
    return load_family(point, locate(point))


def counted(
    prompt_tokens: int, *, visual_tokens: int = VISUAL, cut: Cut | None = None, batch_size: int = 1
) -> Counted:
    """LLaVA-1.5-7B with a picture of 336 pixels."""
    family = read_family("llava", "random")
    geometry = Geometry(
        sizes=((336, 336),) * batch_size, prompt_tokens=prompt_tokens, new_tokens=1, cut=cut
    )
    return Counted(
        costs=family.costs,
        geometry=geometry,
        visual_tokens=(visual_tokens,) * batch_size,
        has_projector=True,
    )


def total(name: str, prompt_tokens: int, visual_tokens: int = VISUAL) -> float:
    return CONVENTIONS[name].total(counted(prompt_tokens, visual_tokens=visual_tokens))


def prefill_layers(prompt_tokens: int) -> float:
    """The multiply-adds of the prefill, twice, as papers do that leave out the head."""
    entries = CONVENTIONS["macs"].entries(counted(prompt_tokens))
    return 2 * sum(one.amount for one in entries if one.phase == "prefill" and one.what != "head")


@pytest.mark.parametrize(
    ("name", "prompt_tokens", "published"),
    [
        ("fastv", 612, 99.3e9),
        ("fastv", 611, 99.2e9),
        ("pyramiddrop", 612, 3.82e12),
        ("fastv_all", 622, 3.23e12),
        ("calflops", 622, 8.48e12),
    ],
)
def test_published_figures_are_reproduced(name: str, prompt_tokens: int, published: float) -> None:
    assert total(name, prompt_tokens) == pytest.approx(published, rel=0.005)


def test_what_lies_between_two_published_figures_is_the_head_and_the_projector() -> None:
    entries = {one.what: one.amount for one in CONVENTIONS["calflops"].entries(counted(622))}
    without_projector = sum(entries.values()) - entries["projector"]
    assert without_projector == pytest.approx(8.42e12, rel=0.005)
    assert without_projector - entries["head"] == pytest.approx(8.26e12, rel=0.005)
    assert prefill_layers(622) == pytest.approx(8.26e12, rel=0.005)


@pytest.mark.parametrize(("visual", "budget"), [(192, 3.3e12), (128, 2.4e12), (64, 1.5e12)])
def test_rounded_budgets_are_within_their_rounding(visual: int, budget: float) -> None:
    assert prefill_layers(visual + 55) == pytest.approx(budget, rel=0.04)


@pytest.mark.parametrize(
    ("layer", "dropped", "published"),
    [(2, 0.5, 0.55), (3, 0.5, 0.57), (5, 0.5, 0.60), (3, 0.75, 0.35), (2, 0.9, 0.20)],
)
def test_the_ratios_of_dropping_inside_the_layers(
    layer: int, dropped: float, published: float
) -> None:
    cut = Cut(layer=layer, tokens=612 - round(dropped * VISUAL))
    fastv = CONVENTIONS["fastv"]
    ratio = fastv.total(counted(612, cut=cut)) / fastv.total(counted(612))
    # Published as whole percents.
    assert ratio == pytest.approx(published, abs=0.0075)


def test_visual_tokens_alone_lose_what_is_dropped() -> None:
    cut = Cut(layer=0, tokens=612 - 384)
    dropped = CONVENTIONS["pyramiddrop"].total(counted(612, cut=cut))
    assert dropped == total("pyramiddrop", 612, visual_tokens=VISUAL - 384)


def test_rows_lose_the_visual_tokens_that_are_theirs() -> None:
    """The longest prompt after dropping need not be the one that was the longest before."""
    family = read_family("qwen25vl", "tiny")
    pruning = TokenPruning(kind="", order=0, method="fastv", keep=0.5, layer=1, seed=0)
    visual, text = (100, 20), (10, 95)
    whole = Geometry(sizes=((112, 112),) * 2, prompt_tokens=115, new_tokens=1)
    geometry = pruning.shape(whole, visual_tokens=visual, text_tokens=text)
    given = Counted(costs=family.costs, geometry=geometry, visual_tokens=visual, has_projector=True)
    stack = family.costs.decoder_stack
    d, m = stack.width, stack.inner_width
    lengths = [(1, n) for n in visual] + [(stack.layers - 1, n) for n in (50, 10)]
    by_hand = sum(layers * (4 * n * d**2 + 2 * n**2 * d + 3 * n * d * m) for layers, n in lengths)
    assert CONVENTIONS["pyramiddrop"].total(given) == by_hand


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_exact_adds_up_to_the_arithmetic_and_macs_are_half(name: str, batch_size: int) -> None:
    family = read_family(name, "tiny")
    side = family.processing.snap_side(112)
    geometry = Geometry(sizes=((side, side),) * batch_size, prompt_tokens=150, new_tokens=5)
    given = Counted(
        costs=family.costs,
        geometry=geometry,
        visual_tokens=(16,) * batch_size,
        has_projector=bool(family.layout.parts.projector),
    )
    entries = list(CONVENTIONS["exact"].entries(given))
    for phase, flops in analytic_by_phase(family, geometry).items():
        assert sum(one.amount for one in entries if one.phase == phase) == (flops or 0)
    assert CONVENTIONS["macs"].total(given) * 2 == CONVENTIONS["exact"].total(given)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_batch_counts_every_row(name: str) -> None:
    one, four = (CONVENTIONS[name].total(counted(612, batch_size=size)) for size in (1, 4))
    assert four == pytest.approx(4 * one, rel=1e-12)


def test_a_cut_behind_the_last_layer_changes_nothing() -> None:
    family = read_family("llava", "random")
    whole = Geometry(sizes=((336, 336),), prompt_tokens=612, new_tokens=4)
    late = replace(whole, cut=Cut(layer=32, tokens=100))
    assert analytic_by_phase(family, late) == analytic_by_phase(family, whole)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ConfigError, match="convention=tflops: allowed is one of exact, macs"):
        find_convention("tflops")
