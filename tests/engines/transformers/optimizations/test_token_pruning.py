"""Dropped visual tokens: against the full model, a reference without a cache, and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from profiling.costs.counting import FlopCounter
from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.engines.transformers.optimizations.token_pruning import TokenPruning
from profiling.engines.transformers.token_reduction.gathering import select_columns
from profiling.engines.transformers.token_reduction.method import without
from profiling.engines.transformers.token_reduction.methods.fastv import FastV
from profiling.engines.transformers.token_reduction.methods.prumerge import PruMerge
from profiling.engines.transformers.token_reduction.methods.uniform import spread, take_grids
from profiling.engines.transformers.token_reduction.prompt import Prompt
from profiling.engines.transformers.token_reduction.reducer import count_kept
from profiling.errors import ConfigError, Unsupported
from tests.composing import compose_point
from tests.tiny_models import FAMILIES, answer, ask_unevenly, encode, load, make_workload

LENGTH = 4
SIDE = 120
PRUNABLE = ("fuyu", "llava", "qwen25vl")
ROOM = Path(__file__).parents[4] / "profiling/engines/transformers/token_reduction/methods"
METHODS = sorted(path.stem for path in ROOM.glob("[!_]*.py"))


def prune(family: str, method: str, keep: float, layer: int | None = None) -> TransformersEngine:
    settings = {"method": method, "keep": keep, "layer": "null" if layer is None else layer}
    overrides = [f"optimization.token_pruning.{name}={value}" for name, value in settings.items()]
    return load(family, "optimization=token_pruning", *overrides)


def pruning_of(engine: TransformersEngine) -> TokenPruning:
    (only,) = engine.stack
    assert isinstance(only, TokenPruning)
    return only


CASES = [
    (family, method, layer)
    for family in PRUNABLE
    for method, layer in [*((method, None) for method in METHODS), ("random", 1)]
    if not (family == "fuyu" and method in ("visionzip", "prumerge"))
]


# What the fast suite has of them: every method, and every family twice.
FAST_CASES = {
    ("fuyu", "divprune", None),
    ("qwen25vl", "fastv", None),
    ("llava", "prumerge", None),
    ("qwen25vl", "visionzip", None),
    ("fuyu", "random", 1),
    ("llava", "random", None),
    ("llava", "uniform", None),
}


@pytest.mark.parametrize(
    ("family", "method", "layer"),
    [pytest.param(*case, marks=() if case in FAST_CASES else pytest.mark.slow) for case in CASES],
)
def test_keeping_all_is_the_full_model_and_batches_are_singles(
    family: str, method: str, layer: int | None
) -> None:
    plain, whole = load(family), prune(family, method, 1.0, layer)
    asked = ask_unevenly(plain, 2)
    assert answer(whole, asked, SIDE, LENGTH) == answer(plain, asked, SIDE, LENGTH)
    half = prune(family, method, 0.5, layer)
    pruning_of(half).begin_pass()
    together = answer(half, asked, SIDE, LENGTH)
    kept = pruning_of(half).reducer.kept
    alone = [answer(half, [one], SIDE, LENGTH)[0] for one in asked]
    assert together == alone
    assert pruning_of(half).reducer.kept == kept * 2
    visual = plain.family.processing.count_visual_tokens(encode(plain, asked, SIDE)["input_ids"])
    assert kept == [count_kept(count, 0.5) for count in visual.tolist()]


def test_shares_of_many_patches_are_not_rounded_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores add up to one over all patches of a picture, and half precision ends near 6e-8."""
    scores = torch.tensor([3e-8, 2e-8, 1e-8])
    monkeypatch.setattr(PruMerge, "scores", lambda *_: scores)
    tokens = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]).half()
    prompt: Any = None
    made = PruMerge(seed=0, layer=0).merge(prompt, 0, tokens, torch.tensor([0]))
    assert made.dtype == torch.float16
    torch.testing.assert_close(made.float(), torch.tensor([[10 / 6, 0.0]]), atol=1e-3, rtol=0)


def test_attention_that_half_precision_cannot_multiply_is_read() -> None:
    """The kernels multiply in single precision; keys of large checkpoints have such channels."""
    ids = torch.tensor([[7, 7, 7, 1]])
    prompt = Prompt(inputs={"input_ids": ids}, image_token_id=7)
    method, sizes = FastV(seed=0, layer=1), torch.tensor([300.0, 302.0, 301.0, 300.0])
    method.start(prompt)
    keys = sizes.half()[None, None, :, None].expand(-1, -1, -1, 64)
    method._look(torch.full_like(keys, 300), keys, 64**-0.5)
    assert method.choose(prompt, 0, torch.zeros(3, 1), 1).tolist() == [1]


# Against a reference that has neither a cache nor generate: each step from the beginning


def embed(engine: TransformersEngine, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The whole prompt's embeddings, and its positions as the library numbers them."""
    network, ids = engine.network, inputs["input_ids"]
    embeddings = network.get_input_embeddings()(ids)
    features = engine.family.layout.embed(network, inputs)
    visual = ids == engine.family.processing.image_token_id
    embeddings = embeddings.masked_scatter(visual[..., None], features)
    if not hasattr(network.model, "get_rope_index"):
        return embeddings, torch.arange(ids.shape[1])[None]
    names = ("mm_token_type_ids", "image_grid_thw")
    return embeddings, network.model.get_rope_index(ids, **{n: inputs[n] for n in names})[0]


def forward(
    engine: TransformersEngine, states: Tensor, positions: Tensor, kept: Tensor, layer: int
) -> Tensor:
    """Logits of the last token; dropped tokens are masked in the layers that do not see them."""
    decoder = engine.network.get_submodule(engine.family.layout.decoder)
    causal = torch.ones(states.shape[1], states.shape[1]).tril().bool()
    angles = decoder.rotary_emb(states, positions)
    for index, module in enumerate(decoder.layers):
        dropping = (kept[None, :] | torch.eye(len(kept)).bool()) if index >= layer else True
        states = module(
            states, attention_mask=(causal & dropping)[None, None], position_embeddings=angles
        )
    norm = getattr(decoder, "norm", None) or decoder.final_layernorm
    return engine.network.lm_head(norm(states)[:, -1])  # type: ignore[no-any-return]


@torch.inference_mode()
def refer(
    engine: TransformersEngine, inputs: dict[str, Tensor], kept: Tensor, layer: int
) -> list[int]:
    states, positions = embed(engine, inputs)
    tokens: list[int] = []
    for _ in range(LENGTH):
        logits = forward(engine, states, positions, kept, layer)
        logits[:, engine.network.generation_config.eos_token_id] = -torch.inf
        token = logits.argmax(dim=-1)
        tokens.append(int(token))
        states = torch.cat([states, engine.network.get_input_embeddings()(token)[:, None]], dim=1)
        after = (positions[..., -1:].amax() + 1).expand(*positions.shape[:-1], 1)
        positions = torch.cat([positions, after], dim=-1)
        kept = torch.cat([kept, torch.ones(1, dtype=torch.bool)])
    return tokens


# Methods and layers with the families of the fast suite.
HALVED = {
    ("random", 0): ("fuyu",),
    ("uniform", 0): ("qwen25vl",),
    ("divprune", 0): ("llava",),
    ("fastv", 2): ("qwen25vl",),
    ("random", 1): ("llava",),
}


@pytest.mark.parametrize(
    ("family", "method", "layer"),
    [
        pytest.param(family, *case, marks=() if family in HALVED[case] else pytest.mark.slow)
        for family in PRUNABLE
        for case in HALVED
    ],
)
def test_half_of_the_tokens_is_as_the_reference(family: str, method: str, layer: int) -> None:
    engine = prune(family, method, 0.5, layer)
    plain = load(family)
    for asked in ask_unevenly(plain, 2):
        (told,) = answer(engine, [asked], SIDE, LENGTH)
        inputs = encode(plain, [asked], SIDE)
        assert told == refer(plain, inputs, chosen_columns(engine, inputs), layer)


def chosen_columns(engine: TransformersEngine, inputs: dict[str, Tensor]) -> Tensor:
    """Which columns of the prompt of the last generation went on."""
    columns: Any = pruning_of(engine).reducer._columns
    kept = torch.zeros(inputs["input_ids"].shape[1], dtype=torch.bool)
    kept[columns.order[0][columns.valid[0]]] = True
    return kept


# Counts

SLOW_COUNTS = [("fuyu", 2), ("llava", 0), ("llava", 2), ("qwen25vl", 0)]


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ("fuyu", 0),
        ("qwen25vl", 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_COUNTS),
    ],
)
def test_what_is_counted_is_what_is_computed(family: str, layer: int) -> None:
    """Uniform places are found without any product, so that the counts are equal."""
    engine = prune(family, "uniform", 0.5, layer)
    inputs = Inputs(encode(engine, ask_unevenly(engine, 2), SIDE), side=SIDE)
    with FlopCounter() as counter:
        engine.generate(inputs, length=3, exact=True, trace=None)
    costs = engine.costs(inputs, length=3, cross_check=False)
    whole = load(family).costs(inputs, length=3, cross_check=False)
    assert sum(count.counted or 0 for count in costs.counts) == counter.flops
    for count in costs.counts:
        assert count.analytic == count.counted
    prefill, plain_prefill = costs.flops("prefill"), whole.flops("prefill")
    assert prefill is not None and plain_prefill is not None and prefill < plain_prefill
    assert costs.flops("vision") == whole.flops("vision")
    moved, plain_moved = costs.moved_bytes["decode"], whole.moved_bytes["decode"]
    assert moved is not None and plain_moved is not None and moved < plain_moved


def test_choosing_costs_little() -> None:
    for method in METHODS:
        engine = prune("llava", method, 0.5)
        inputs = Inputs(encode(engine, ask_unevenly(engine, 2), SIDE), side=SIDE)
        with FlopCounter() as counter:
            engine.generate(inputs, length=1, exact=True, trace=None)
        costs = engine.costs(inputs, length=1, cross_check=False)
        counted = sum(count.counted or 0 for count in costs.counts)
        assert counted <= counter.flops < 1.05 * counted


def test_kept_tokens_are_recorded_and_teaching_is_not_counted() -> None:
    engine = prune("llava", "divprune", 0.25)
    workload = make_workload(engine, batch_size=2, max_new_tokens=2, count=4)
    engine.begin_pass()
    for index in range(len(workload.batches)):
        workload.run(index)
    readings = {row.metric: row.value for row in engine.answered()}
    assert readings == {"visual_tokens_kept": 16, "pruned_from_layer": 0}
    inputs = engine.place(workload.encode(0))
    engine.reference_nlls(inputs, ["a", "b"], 2)
    assert len(pruning_of(engine).reducer.kept) == 4


# Choosing


def test_random_tokens_belong_to_the_sample_and_the_seed() -> None:
    engine = prune("llava", "random", 0.5)
    asked = ask_unevenly(engine, 4)
    inputs = encode(engine, asked, SIDE)
    chosen = []
    for one in asked:
        answer(engine, [one], SIDE, 1)
        chosen.append(chosen_columns(engine, encode(engine, [one], SIDE)).tolist())
    assert len({tuple(row) for row in chosen}) == len(chosen)
    prompt: Any = pruning_of(engine).reducer._prompt
    assert prompt.seed(0, 0) != prompt.seed(0, 1)
    assert inputs["input_ids"].shape[0] == 4


@pytest.mark.parametrize(
    ("grids", "count"), [(((4, 6),), 6), (((3, 3), (2, 5)), 7), (((1, 1),), 1)]
)
def test_uniform_places_are_spread_in_both_directions(
    grids: tuple[tuple[int, int], ...], count: int
) -> None:
    places = spread(grids, count)
    assert len(set(places)) == count == len(places)
    assert list(places) == sorted(places)


def test_half_of_a_square_has_no_empty_row_and_no_empty_column() -> None:
    places = spread(((6, 6),), 18)
    assert {place // 6 for place in places} == {place % 6 for place in places} == set(range(6))


def test_pictures_of_a_row_are_taken_in_order() -> None:
    grids = [(2, 2), (1, 3), (3, 3)]
    assert take_grids(grids, [7, 9], 0) == ((2, 2), (1, 3))
    assert take_grids(grids, [7, 9], 1) == ((3, 3),)


def test_shorter_rows_are_filled_on_the_left() -> None:
    kept = torch.tensor([[True, False, True, True], [False, False, True, True]])
    order, valid = select_columns(kept)
    assert order[0].tolist() == [0, 2, 3]
    assert order[1].tolist()[1:] == [2, 3]
    assert valid.tolist() == [[True, True, True], [False, True, True]]


def test_what_was_not_chosen() -> None:
    assert without(torch.tensor([1, 3]), 5).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("visual", "keep", "kept"), [(64, 0.5, 32), (64, 0.001, 1), (0, 0.5, 0), (1, 0.1, 1), (5, 1, 5)]
)
def test_how_many_are_kept(visual: int, keep: float, kept: int) -> None:
    assert count_kept(visual, keep) == kept


# Stacks and refusals


@pytest.mark.parametrize("names", ["[bf16,token_pruning]", "[token_pruning,int4]"])
def test_it_stacks(names: str) -> None:
    engine = load("llava", f"optimization={names}")
    assert all(len(row) == 3 for row in answer(engine, ask_unevenly(engine, 3), SIDE, 3))


@pytest.mark.parametrize(
    ("family", "overrides", "reason"),
    [
        *(
            (family, (), "the Q-Former gives a fixed number")
            for family in FAMILIES
            if family not in PRUNABLE
        ),
        ("llava", ("optimization=[token_pruning,static_cache]",), "static_cache fixes shapes"),
        ("llava", ("optimization=[token_pruning,compile]",), "compile fixes shapes"),
        ("fuyu", ("optimization.token_pruning.method=visionzip",), "this family has none"),
        (
            "llava",
            (
                "optimization=[token_pruning,vision_cache]",
                "optimization.token_pruning.method=prumerge",
            ),
            "which vision_cache hides",
        ),
    ],
)
def test_what_cannot_be_done_is_unsupported(
    family: str, overrides: tuple[str, ...], reason: str
) -> None:
    stacked = any(one.startswith("optimization=") for one in overrides)
    chosen = overrides if stacked else ("optimization=token_pruning", *overrides)
    with pytest.raises(Unsupported, match=reason):
        TransformersEngine.check(compose_point(f"model={family}", *chosen))


def test_a_layer_that_the_decoder_has_not_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="layer=99: the decoder has"):
        prune("llava", "random", 0.5, 99)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("keep=0", "allowed is a number above 0 and up to 1"),
        ("keep=1.5", "allowed is a number above 0 and up to 1"),
        ("keep=half", "allowed is a number from 0"),
        ("method=best", "allowed is one of divprune, fastv"),
        ("layer=-1", "allowed is a whole number from 0"),
        ("layer=1.5", "allowed is a whole number from 0"),
        (f"seed={2**63}", "allowed is a whole number from 0 to"),
    ],
)
def test_wrong_settings_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose_point(
            "model=llava", "optimization=token_pruning", f"optimization.token_pruning.{setting}"
        )


@pytest.mark.parametrize(
    ("method", "layer", "told"),
    [("fastv", 0, "allowed is from 1"), ("visionzip", 2, "allowed is 0")],
)
def test_a_layer_that_does_not_suit_the_method_is_refused(
    method: str, layer: int, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        prune("llava", method, 0.5, layer)
