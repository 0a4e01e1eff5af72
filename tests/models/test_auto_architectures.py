"""`model=auto` on every architecture that the tests can make, at tiny sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from tests.architectures import ARCHITECTURES, write_checkpoint
from tests.auto_points import TOKENS, check_phases, load_auto, make_workload
from tests.tiny_models import ask, encode, first_logits, make_picture

pytestmark = pytest.mark.slow

# In a batch of prompts of different lengths they do not answer as they do alone.
ALONE = ("kosmos-2", "kosmos-2.5")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    name = request.param
    return name, write_checkpoint(name, tmp_path_factory.mktemp("made") / name)


def test_there_are_enough() -> None:
    assert len(ARCHITECTURES) >= 25


def test_phases_add_up_and_operators_are_known(made: tuple[str, Path]) -> None:
    engine = load_auto(*made)
    workload = make_workload(engine, None, 1)
    engine.settle(workload)
    check_phases(engine, workload)
    costs = engine.costs(workload.encode(0), length=TOKENS, cross_check=False)
    assert costs.uncounted == frozenset()
    flops = {count.phase: count.counted for count in costs.counts}
    assert all(flops[phase] for phase in ("vision", "prefill", "decode"))
    longer = engine.costs(workload.encode(0), length=TOKENS + 3, cross_check=False)
    assert longer.flops("prefill") == flops["prefill"]
    assert (longer.flops("decode") or 0) > (flops["decode"] or 0)


def test_steps_that_were_not_counted_are_as_if_they_were(made: tuple[str, Path]) -> None:
    """The growth of the first steps holds for the later ones."""
    engine = load_auto(*made)
    workload = make_workload(engine, None, 1)
    engine.settle(workload)
    inputs = workload.encode(0)
    three, four = (engine.costs(inputs, length=n, cross_check=False) for n in (3, 4))
    # Of three tokens both steps are counted, of four the last one is not.
    five = engine.costs(inputs, length=5, cross_check=False)
    decode = [costs.flops("decode") or 0 for costs in (three, four, five)]
    grown = three.steps[2] - three.steps[1]
    assert decode[2] - decode[1] - (decode[1] - decode[0]) == grown


def test_another_picture_changes_the_logits_or_is_proved(made: tuple[str, Path]) -> None:
    engine = load_auto(*made)
    engine.settle(make_workload(engine, None, 1))
    logits = [first_logits_of(engine, make_picture(320, 240, seed=seed)) for seed in (0, 1)]
    assert not logits[0].equal(logits[1])


def first_logits_of(engine: TransformersEngine, picture: Image.Image) -> Tensor:
    inputs = encode(engine, [ask(engine, "what is it", picture)], None)
    return first_logits(engine, inputs, None)


def test_rows_of_a_batch_are_answered_as_alone_or_refused(made: tuple[str, Path]) -> None:
    name, _ = made
    engine = load_auto(*made)
    workload = make_workload(engine, None, 2)
    engine.settle(workload)
    if name in ALONE:
        with pytest.raises(Unsupported, match="batch of prompts of different lengths"):
            workload.encode(0)
    else:
        check_phases(engine, workload)


def test_prompts_have_the_length_that_is_asked(made: tuple[str, Path]) -> None:
    engine = load_auto(*made)
    lengths = [
        int(make_workload(engine, None, 1, prompt_len=n).encode(0)["input_ids"].shape[1])
        for n in (3, 4, 20)
    ]
    assert [b - lengths[0] for b in lengths] == [0, 1, 17]
