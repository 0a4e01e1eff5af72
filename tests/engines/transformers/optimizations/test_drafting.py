"""Drafted tokens: the answers of greedy decoding, counts of what was accepted, and times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.engines.trace import HostClock, Trace
from profiling.engines.transformers.drafts import DraftCounts, watch_drafts
from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.engines.transformers.optimizations.drafting import Drafting
from profiling.errors import ConfigError, Unsupported
from profiling.records import UNAVAILABLE
from profiling.samples.samples import Sample, load_samples
from tests.composing import PROJECT, compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, build, load, make_workload, take_samples

SIDE = 120
WAYS = ("prompt_lookup", "assisted")
WITHOUT_ASSISTANT = ("blip2_opt", "blip2_t5")
CASES = [
    (family, way)
    for family in FAMILIES
    for way in WAYS
    if way != "assisted" or family not in WITHOUT_ASSISTANT
]
# Other tests draft for llava in both ways.
FAST_CASES = [
    ("blip2_opt", "prompt_lookup"),
    ("blip2_t5", "prompt_lookup"),
    ("fuyu", "prompt_lookup"),
    ("qwen25vl", "assisted"),
]


def answers(
    engine: TransformersEngine, samples: Sequence[Sample], *, length: int, exact: bool
) -> list[list[int]]:
    """One sample at a time."""
    rows: list[list[int]] = []
    for sample in samples:
        inputs = engine.place(engine.encode(engine.prepare([sample], None), SIDE))
        rows += engine.generate(inputs, length=length, exact=exact, trace=None).tolist()
    return rows


def counts_of(engine: TransformersEngine) -> DraftCounts:
    (drafting,) = (one for one in engine.stack if isinstance(one, Drafting))
    return drafting.counts


@pytest.mark.parametrize(("family", "way"), slow_except(CASES, *FAST_CASES))
def test_the_tokens_are_those_of_greedy_decoding(family: str, way: str) -> None:
    plain, drafted = load(family), load(family, f"optimization={way}")
    samples = take_samples(2)
    for exact, length in ((False, 16), (True, 20)):
        counts_of(drafted).forget()
        expected = answers(plain, samples, length=length, exact=exact)
        assert answers(drafted, samples, length=length, exact=exact) == expected
    counts = counts_of(drafted)
    # The first token of each answer comes out of the prefill, without any draft.
    assert counts.tokens == len(samples) * 19
    assert counts.tokens >= counts.steps > 0
    assert 0 < counts.accepted <= counts.drafted


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["coco", "scienceqa", "textvqa"])
@pytest.mark.parametrize(("family", "way"), CASES)
def test_all_samples_get_the_tokens_of_greedy_decoding(family: str, way: str, dataset: str) -> None:
    samples = load_samples(PROJECT / "datasets" / dataset, count=None, at_most=None)
    plain, drafted = load(family), load(family, f"optimization={way}")
    for exact, length in ((False, 24), (True, 24)):
        expected = answers(plain, samples, length=length, exact=exact)
        assert answers(drafted, samples, length=length, exact=exact) == expected


# The assistant


@pytest.mark.parametrize(
    "family", slow_except([f for f in FAMILIES if f not in WITHOUT_ASSISTANT], "fuyu")
)
def test_an_assistant_with_all_layers_is_always_right(family: str) -> None:
    """It sees the picture: without, hardly any of its tokens would be accepted."""
    layers = load(family).family.costs.decoder_stack.layers
    engine = load(family, "optimization=assisted", f"optimization.assisted.layers={layers}")
    counts_of(engine).forget()
    answers(engine, take_samples(3), length=13, exact=True)
    counts = counts_of(engine)
    assert counts.accepted == counts.drafted > 0
    assert (counts.steps, counts.tokens) == (3 * 2, 3 * 12)


def test_a_checkpoint_drafts() -> None:
    folder = PROJECT / "checkpoints" / "tiny" / "llava"
    engine = load("llava", "optimization=assisted", f"optimization.assisted.checkpoint={folder}")
    counts_of(engine).forget()
    samples = take_samples(2)
    expected = answers(load("llava"), samples, length=8, exact=True)
    assert answers(engine, samples, length=8, exact=True) == expected
    assert counts_of(engine).accepted == counts_of(engine).drafted > 0


def copy_checkpoint(folder: Path, **changed: Any) -> Path:
    shutil.copytree(PROJECT / "checkpoints" / "tiny" / "llava", folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= changed
    path.write_text(json.dumps(config))
    return folder


def test_an_assistant_of_another_width_is_refused(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "other", hidden_size=96)
    point = compose_point(
        "model=llava", "optimization=assisted", f"optimization.assisted.checkpoint={folder}"
    )
    with pytest.raises(ConfigError, match="its hidden_size is 96, and the model's 192"):
        build(point)


def test_an_assistant_with_other_tokens_is_refused(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "other")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second, *_ = sorted(name for name in vocabulary if name.isalpha())
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer))
    point = compose_point(
        "model=llava", "optimization=assisted", f"optimization.assisted.checkpoint={folder}"
    )
    with pytest.raises(ConfigError, match="json is another than the model's"):
        build(point)


def test_an_assistant_of_another_family_is_refused() -> None:
    folder = PROJECT / "checkpoints" / "tiny" / "fuyu"
    point = compose_point(
        "model=llava", "optimization=assisted", f"optimization.assisted.checkpoint={folder}"
    )
    with pytest.raises(ConfigError, match="model_type fuyu"):
        TransformersEngine.check(point)


def test_the_assistant_shares_all_values() -> None:
    engine, plain = load("llava", "optimization=assisted"), load("llava")
    assert engine.footprint().model_bytes == plain.footprint().model_bytes
    assistant = engine.loaded.drafting["assistant_model"]
    own = {parameter.data_ptr() for parameter in engine.network.parameters()}
    assert {parameter.data_ptr() for parameter in assistant.parameters()} < own
    assert len(engine.network.model.language_model.layers) == 4


# Times and counts


@pytest.mark.parametrize("way", WAYS)
def test_phases_add_up_where_a_step_gives_several_tokens(way: str) -> None:
    layers = load("llava").family.costs.decoder_stack.layers
    wide = [f"optimization.assisted.layers={layers}"] if way == "assisted" else []
    engine = load("llava", f"optimization={way}", *wide)
    workload = make_workload(engine, batch_size=1, max_new_tokens=13, count=1)
    timing = workload.run_timed(0)
    assert timing.num_tokens == 13
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)
    trace = Trace(clock=HostClock())
    inputs = engine.place(workload.encode(0))
    engine.generate(inputs, length=13, exact=True, trace=trace)
    (marks,) = trace.rows.values()
    assert marks[0].tokens == 1
    assert marks[-1].tokens == 13
    if way == "assisted":
        assert [mark.tokens for mark in marks] == [1, 7, 13]


@pytest.mark.parametrize(
    ("drafted", "new", "counted"),
    [
        ([1, 2, 3], [1, 2, 9], (3, 2)),
        ([1, 2, 3], [9], (3, 0)),
        ([1, 2, 3], [1, 2, 3, 9], (3, 3)),
        # The answer ended with the second drafted token: the third was never judged.
        ([1, 2, 3], [1, 2], (2, 2)),
        ([], [9], (0, 0)),
    ],
)
def test_what_was_accepted(drafted: list[int], new: list[int], counted: tuple[int, int]) -> None:
    counts = DraftCounts()
    counts.add(drafted, new)
    assert (counts.drafted, counts.accepted) == counted
    assert (counts.steps, counts.tokens) == (1, len(new))


def test_readings_say_what_was_drafted() -> None:
    counts = DraftCounts()
    assert [r.status == UNAVAILABLE for r in counts.readings()] == [True, False, True]
    counts.add([1, 2], [1, 9])
    with counts.uncounted():
        counts.add([5, 5, 5], [5, 5, 5, 5])
    counts.add([3, 4], [3, 4, 5])
    assert {r.metric: r.value for r in counts.readings()} == {
        "acceptance_rate": 0.75,
        "drafted_tokens": 4,
        "tokens_per_step": 2.5,
    }


class _Drafter:
    """Drafts two tokens, whatever it is asked."""

    def __init__(self) -> None:
        self.asked, self.told = 0, 0

    def get_candidates(self, ids: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.asked += 1
        return torch.cat([ids, torch.tensor([[7, 8]])], dim=1), None

    def update_candidate_strategy(self, ids: torch.Tensor, scores: Any, matches: int) -> None:
        self.told += 1


class _Generating(torch.nn.Module):
    def _get_candidate_generator(self) -> _Drafter:
        return _Drafter()


def test_nothing_is_drafted_before_the_prefill() -> None:
    module, counts = _Generating(), DraftCounts()
    watch_drafts(module, counts)
    drafter = module._get_candidate_generator()
    prompt = torch.tensor([[1, 2, 3]])
    ids, _ = drafter.get_candidates(prompt)
    assert ids.tolist() == [[1, 2, 3]]
    drafter.update_candidate_strategy(torch.tensor([[1, 2, 3, 4]]), None, 0)
    assert (drafter.asked, drafter.told, counts.steps) == (0, 0, 0)
    ids, _ = drafter.get_candidates(torch.tensor([[1, 2, 3, 4]]))
    assert ids.tolist() == [[1, 2, 3, 4, 7, 8]]
    drafter.update_candidate_strategy(torch.tensor([[1, 2, 3, 4, 7, 9]]), None, 1)
    assert (counts.drafted, counts.accepted, counts.tokens) == (2, 1, 2)


def test_likelihoods_of_references_are_those_of_the_plain_model() -> None:
    plain, drafted = load("llava"), load("llava", "optimization=prompt_lookup")
    (sample,) = take_samples(1)
    inputs = Inputs(plain.place(plain.encode(plain.prepare([sample], None), SIDE)), side=SIDE)
    expected = plain.reference_nlls(inputs, sample.references[:1], 6)
    assert drafted.reference_nlls(inputs, sample.references[:1], 6) == expected


# Stacks and refusals


@pytest.mark.parametrize("names", ["[bf16,prompt_lookup]", "[bf16,assisted]"])
def test_it_stacks(names: str) -> None:
    drafted = load("qwen25vl", f"optimization={names}")
    told = answers(drafted, take_samples(2), length=6, exact=True)
    assert [len(row) for row in told] == [6, 6]
    assert drafted.model.dtype == torch.bfloat16


def test_it_stacks_with_dropped_tokens() -> None:
    pruned = ("optimization.token_pruning.method=fastv", "optimization.token_pruning.keep=0.5")
    samples = take_samples(3)
    plain = load("llava", "optimization=token_pruning", *pruned)
    both = load("llava", "optimization=[token_pruning,prompt_lookup]", *pruned)
    expected = answers(plain, samples, length=16, exact=True)
    assert answers(both, samples, length=16, exact=True) == expected


@pytest.mark.parametrize(
    ("model", "overrides", "reason"),
    [
        ("llava", ("optimization=prompt_lookup", "batch_size=2"), "batch_size=1"),
        ("llava", ("optimization=[prompt_lookup,static_cache]",), "cannot give refused tokens"),
        ("llava", ("optimization=[assisted,quantized_cache]",), "cannot give refused tokens"),
        ("llava", ("optimization=[assisted,token_pruning]",), "token_pruning replaces"),
        *((family, ("optimization=assisted",), "no picture") for family in WITHOUT_ASSISTANT),
    ],
)
def test_what_cannot_be_done_is_unsupported(
    model: str, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        TransformersEngine.check(compose_point(f"model={model}", *overrides))


def test_more_layers_than_there_are_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="layers=99: the decoder has 4 layers"):
        load("llava", "optimization=assisted", "optimization.assisted.layers=99")


@pytest.mark.parametrize(
    "setting",
    [
        "optimization.prompt_lookup.num_tokens=0",
        "optimization.prompt_lookup.ngram=0",
        "optimization.assisted.num_tokens=0",
        "optimization.assisted.layers=0",
        "optimization.assisted.checkpoint=''",
    ],
)
def test_wrong_settings_are_refused(setting: str) -> None:
    name = setting.split(".")[1]
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        compose_point("model=llava", f"optimization={name}", setting)


def test_layers_beside_a_checkpoint_are_refused() -> None:
    with pytest.raises(ConfigError, match="allowed beside checkpoint=null"):
        compose_point(
            "model=llava",
            "optimization=assisted",
            "optimization.assisted.checkpoint=a/b",
            "optimization.assisted.layers=2",
        )


def test_two_ways_of_drafting_exclude_each_other() -> None:
    with pytest.raises(ConfigError):
        compose_point("model=llava", "optimization=[prompt_lookup,assisted]")
