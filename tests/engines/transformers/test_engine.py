"""What the transformers engine answers probes, for every family."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from tests.tiny_models import FAMILIES, load, make_workload, take_samples


@pytest.fixture(params=FAMILIES)
def engine(request: pytest.FixtureRequest) -> TransformersEngine:
    return load(request.param)


# A part alone


@contextmanager
def watch(engine: TransformersEngine, part: str) -> Iterator[list[Tensor]]:
    """What the part's module gives back first, call by call."""
    outputs: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        outputs.append((output if isinstance(output, Tensor) else output[0]).clone())

    (module, *_) = engine.loaded.parts()[part]
    handle = module.register_forward_hook(keep)
    yield outputs
    handle.remove()


def test_the_vision_part_alone_does_again_what_it_did_in_a_pass(
    engine: TransformersEngine,
) -> None:
    workload = make_workload(engine, batch_size=2, max_new_tokens=3, count=4)
    with watch(engine, "vision") as outputs:
        repeat = engine.replay("vision", lambda: workload.run(1, max_new_tokens=1))
        calls = len(outputs)
        repeat()
        repeat()
    assert calls >= 1
    assert len(outputs) == 3 * calls
    for number in range(calls, 3 * calls):
        assert torch.equal(outputs[number], outputs[number % calls])
    # Only the calls of that pass are kept.
    with watch(engine, "vision") as outputs:
        workload.run(0, max_new_tokens=1)
        repeat()
    assert len(outputs) == 2 * calls


def test_nothing_is_left_on_the_part(engine: TransformersEngine) -> None:
    workload = make_workload(engine, batch_size=1, max_new_tokens=1, count=1)
    (module, *_) = engine.loaded.parts()["vision"]
    before = len(module._forward_pre_hooks)
    engine.replay("vision", lambda: workload.run(0))
    with pytest.raises(OSError, match="no picture"):
        engine.replay("vision", refuse)
    assert len(module._forward_pre_hooks) == before


def refuse() -> None:
    raise OSError("no picture")


@pytest.mark.parametrize(
    ("family", "optimization", "part", "reason"),
    [
        ("fuyu", "baseline", "projector", "this family has no projector"),
        ("llava", "vision_cache", "projector", "done inside of the vision part"),
        ("llava", "baseline", "text_encoder", "this family has no text_encoder"),
    ],
)
def test_a_part_that_there_is_not_cannot_run_alone(
    family: str, optimization: str, part: str, reason: str
) -> None:
    engine = load(family, f"optimization={optimization}")
    with pytest.raises(Unsupported, match=reason):
        engine.replay(part, lambda: pytest.fail("it ran"))


def test_a_part_that_a_pass_did_not_call_cannot_run_alone() -> None:
    with pytest.raises(Unsupported, match="the vision part was not called by a pass"):
        load("llava").replay("vision", lambda: None)


# Answers


def test_tokens_are_those_up_to_the_end_of_each_row() -> None:
    engine = load("llava")
    end = engine.network.generation_config.eos_token_id
    generated = torch.tensor([[5, 6, end, 0], [7, end, 0, 0], [5, 6, 7, 8]])
    assert engine.tokens(generated) == [[5, 6, end], [7, end], [5, 6, 7, 8]]


def test_a_row_says_what_was_seen_and_without_an_answer_only_that(
    engine: TransformersEngine,
) -> None:
    batch = engine.prepare(take_samples(2), 9)
    inputs = engine.encode(batch, 112)
    generated = engine.generate(engine.place(inputs), length=4, exact=False, trace=None)
    answered, asked = (
        engine.describe(batch, inputs, generated),
        engine.describe(batch, inputs, None),
    )
    for row, (one, other) in enumerate(zip(answered, asked, strict=True)):
        assert one.num_new_tokens == len(engine.tokens(generated)[row])
        assert isinstance(one.answer, str)
        assert (other.answer, other.num_new_tokens) == (None, None)
        assert one.prompt == other.prompt == batch[row].prompt
        assert one.num_question_tokens == other.num_question_tokens == 9
        assert (one.num_prompt_tokens or 0) > (one.num_visual_tokens or 0) > 0
        assert one.image_width == other.image_width


def test_inputs_keep_the_side_that_was_asked_for(engine: TransformersEngine) -> None:
    inputs = engine.encode(engine.prepare(take_samples(1), None), 112)
    assert inputs.side == engine.place(inputs).side == 112


# Facts


def test_where_it_works_is_this_process_on_the_cpu(engine: TransformersEngine) -> None:
    footprint = engine.footprint()
    assert (footprint.pids, footprint.device) == ((os.getpid(),), "cpu")
    assert footprint.on_cpu and not footprint.on_gpu
    assert (footprint.dtype, footprint.computes_in) == ("float32", "float32")
    assert (footprint.gpu_uuid, footprint.accelerator) == (None, None)
    parameters = {id(p): p.nbytes for p in engine.network.parameters()}
    assert footprint.model_bytes is not None
    assert footprint.model_bytes >= sum(parameters.values())
