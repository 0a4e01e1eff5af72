"""Several pictures and clips with optimizations and runtimes: the same tokens, or a line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.costs.counting import FlopCounter
from profiling.engines.engine import find_engine
from profiling.engines.transformers import graph_index
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from profiling.models.model import Prepared
from profiling.samples.samples import load_samples
from profiling.samples.showing import load_shown
from tests.composing import PROJECT, compose_point
from tests.marking import slow_except
from tests.showing import SEVERAL, ask_several
from tests.tiny_models import answer, build, load

SIDE, LENGTH = 112, 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def without_clips(asked: list[Prepared]) -> list[Prepared]:
    return [one for one in asked if not one.shown.frames]


def cases(names: Iterable[str], *fast: tuple[str, str]) -> list[Any]:
    """Every name with every family; the fast suite takes only those named."""
    return [
        pytest.param(*case, marks=() if case in fast else pytest.mark.slow)
        for case in product(names, SEVERAL)
    ]


# What gives the plain model's tokens.
EQUAL = ("vision_cache", "split", "static_cache", "flat_head")
FAST_EQUAL = (("vision_cache", "qwen25vl"), ("static_cache", "llava"))


@pytest.mark.parametrize(("name", "family"), cases(EQUAL, *FAST_EQUAL))
def test_optimizations_answer_as_the_plain_model(name: str, family: str) -> None:
    plain, changed = load(family), load(family, f"optimization={name}")
    asked = ask_several(plain)
    assert answer(changed, asked, SIDE, LENGTH) == answer(plain, asked, SIDE, LENGTH)


@pytest.mark.parametrize(
    ("name", "family"),
    cases(("prompt_lookup", "assisted"), ("prompt_lookup", "qwen25vl")),
)
def test_drafts_are_checked_with_all_that_is_shown(name: str, family: str) -> None:
    """The library drafts for one prompt at a time."""
    plain, changed = load(family), load(family, f"optimization={name}")
    for one in ask_several(plain):
        assert answer(changed, [one], SIDE, LENGTH) == answer(plain, [one], SIDE, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("family", SEVERAL)
def test_the_vision_part_as_a_graph(family: str) -> None:
    test_optimizations_answer_as_the_plain_model("onnx_vision", family)


@pytest.mark.slow
@pytest.mark.parametrize("family", SEVERAL)
def test_all_parts_as_graphs(family: str) -> None:
    point = compose_point(f"model={family}", "engine=onnxruntime")
    if graph_index.find(point) is None:
        graph_index.make(point)
    plain, graphs = load(family), build(point)
    asked = ask_several(plain)
    assert answer(graphs, asked, SIDE, LENGTH) == answer(plain, asked, SIDE, LENGTH)


@pytest.mark.parametrize("family", slow_except(SEVERAL, "qwen25vl"))
def test_a_picture_that_is_shown_again_is_encoded_once(family: str) -> None:
    engine = load(family, "optimization=vision_cache")
    engine.begin_pass()
    asked = without_clips(ask_several(engine, (2, 3)))
    answer(engine, asked, SIDE, LENGTH)
    counts = {reading.metric: reading.value for reading in engine.answered()}
    # Pictures 0 and 1, then 1, 2 and 3; a generation that checks its numbers looks up as well.
    assert counts["vision_cache_lookups"] % 5 == 0
    engine.begin_pass()
    answer(engine, asked, SIDE, LENGTH)
    counts = {reading.metric: reading.value for reading in engine.answered()}
    assert (counts["vision_cache_lookups"], counts["vision_cache_hits"]) == (5, 0)
    answer(engine, asked, SIDE, LENGTH)
    counts = {reading.metric: reading.value for reading in engine.answered()}
    assert (counts["vision_cache_lookups"], counts["vision_cache_hits"]) == (10, 5)


METHODS = ("divprune", "fastv", "prumerge", "random", "uniform", "visionzip")


def prune(family: str, method: str, keep: float) -> TransformersEngine:
    settings = (f"method={method}", f"keep={keep}")
    return load(
        family,
        "optimization=token_pruning",
        *(f"optimization.token_pruning.{one}" for one in settings),
    )


@pytest.mark.parametrize(
    ("method", "family"),
    cases(METHODS, ("uniform", "llava"), ("visionzip", "qwen25vl")),
)
def test_pruning_counts_the_tokens_of_all_pictures(method: str, family: str) -> None:
    plain, whole = load(family), prune(family, method, 1.0)
    asked = without_clips(ask_several(plain))
    expected = answer(plain, asked, SIDE, LENGTH)
    assert answer(whole, asked, SIDE, LENGTH) == expected
    half = prune(family, method, 0.5)
    half.begin_pass()
    together = answer(half, asked, SIDE, LENGTH)
    alone = [answer(half, [one], SIDE, LENGTH)[0] for one in asked]
    assert together == alone
    visual = [
        int(half.family.processing.count_visual_tokens(half.encode([one], SIDE)["input_ids"]))
        for one in asked
    ]
    (kept, _) = [reading.value for reading in half.answered()]
    assert kept == pytest.approx(sum(round(count / 2) for count in visual) / len(visual))


@pytest.mark.slow
@pytest.mark.parametrize("family", slow_except(SEVERAL, "qwen25vl"))
def test_pruned_flops_are_those_of_the_running_network(family: str) -> None:
    engine = prune(family, "uniform", 0.5)
    asked = without_clips(ask_several(engine))
    costs = engine.costs(engine.encode(asked, SIDE), length=LENGTH, cross_check=False)
    with torch.inference_mode(), FlopCounter() as counter:
        answer(engine, asked, SIDE, LENGTH)
    assert counter.flops == sum(one.counted or 0 for one in costs.counts)
    assert all(one.counted == one.analytic for one in costs.counts)


@pytest.mark.parametrize("family", SEVERAL)
def test_text_takes_the_place_of_every_visual_token(family: str) -> None:
    engine = load(family, "optimization=text_only")
    asked = ask_several(engine)
    inputs = engine.encode(asked, SIDE)
    visual = engine.family.processing.count_visual_tokens
    assert visual(inputs["input_ids"]).sum() == 0
    assert inputs.keys() == {"input_ids", "attention_mask"}
    assert visual(inputs.processed["input_ids"]).sum() > 0
    answer_only = engine.generate(engine.place(inputs), length=2, exact=True, trace=None)
    assert answer_only.shape == (len(asked), 2)


def samples(**asked: Any) -> Any:
    given = {"count": 3, "at_most": None, "num_pictures": None, "num_frames": None, "seed": 0}
    return load_shown(PROJECT / "datasets" / "textvqa", **(given | asked))


@pytest.mark.parametrize("family", SEVERAL)
def test_plain_functions_answer_several_pictures(family: str) -> None:
    point = compose_point(f"model={family}", "engine=functional", "engine.library=numpy")
    kind = find_engine(point)
    kind.check_samples(point, samples(num_pictures=3))
    functional: Any = kind.load(point)
    plain = load(family)
    asked = without_clips(ask_several(plain))
    inputs = functional.place(functional.encode(asked, SIDE))
    made = functional.generate(inputs, length=LENGTH, exact=True, trace=None)
    assert made.tolist() == answer(plain, asked, SIDE, LENGTH)


SERVED = ("engine.url=http://x/v1", "engine.model=any")
REFUSED = [
    (["model=qwen25vl", "engine=functional"], "^engine=functional: .* no clips$"),
    (["model=qwen25vl", "optimization=token_pruning"], "^optimization=token_pruning: "),
    (["model=qwen25vl", "optimization=[bf16,token_pruning]"], "^optimization=token_pruning: "),
    (["model=llava"], "^model=llava: .*no clips$"),
    (["model=llava", "engine=onnxruntime"], "^model=llava: .*no clips$"),
    (["model=qwen25vl", "engine=endpoint", *SERVED], "^engine=endpoint: a clip"),
]


@pytest.mark.parametrize(("overrides", "line"), REFUSED)
def test_clips_are_refused_where_they_cannot_be_had(overrides: list[str], line: str) -> None:
    point = compose_point(*overrides)
    find_engine(point).check_samples(point, samples())
    with pytest.raises(Unsupported, match=line) as caught:
        find_engine(point).check_samples(point, samples(num_frames=2))
    assert "\n" not in str(caught.value)


def test_samples_of_the_project_have_one_picture() -> None:
    for dataset in ("coco", "scienceqa", "textvqa"):
        folder = Path(PROJECT / "datasets" / dataset)
        own = load_samples(folder, count=None, at_most=None)
        assert all(len(sample.pictures) == 1 and sample.clip is None for sample in own)
