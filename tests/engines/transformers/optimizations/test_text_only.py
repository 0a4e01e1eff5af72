"""The twin without pictures: the same length, no vision part, costs of the language model alone."""

from __future__ import annotations

from typing import Any

import pytest

from profiling.cost import describe_question, read_question
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from profiling.models.model import Model
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, make_workload

TWIN = "optimization=text_only"


@pytest.mark.parametrize("family", slow_except(FAMILIES, "fuyu", "qwen25vl"))
def test_the_prompt_is_as_long_and_has_no_visual_token(family: str) -> None:
    twin, plain = load(family, TWIN), load(family)
    asked, own = (
        make_workload(one, batch_size=2, max_new_tokens=3, count=2).encode(0)
        for one in (twin, plain)
    )
    assert asked["input_ids"].shape == own["input_ids"].shape
    assert asked["attention_mask"].equal(own["attention_mask"])
    assert set(asked) == {"input_ids", "attention_mask"}
    processing = plain.family.processing
    visual = sum(own["input_ids"].eq(one) for one in processing.visual_token_ids).bool()
    assert visual.any()
    assert asked["input_ids"][~visual].equal(own["input_ids"][~visual])
    assert len(set(asked["input_ids"][visual].tolist())) == 1
    assert processing.count_visual_tokens(asked["input_ids"]).tolist() == [0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vision_part_is_neither_run_nor_counted(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, plain = load(family, TWIN), load(family)
    workload = make_workload(twin, batch_size=2, max_new_tokens=4, count=2)
    batch = twin.prepare(workload.batches[0], None)
    (row, _) = twin.describe(batch, workload.encode(0), None)
    assert (row.num_visual_tokens, row.image_width) == (0, None)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture was processed")

    monkeypatch.setattr(Model, "encode", refuse)
    (vision,) = twin.loaded.model.parts()["vision"]
    monkeypatch.setattr(vision, "forward", refuse)
    timing = workload.run_timed(0)
    assert {"vision", "projector"} & timing.phases_s.keys() == set()
    assert {"vision", "projector"} <= twin.blind.keys()
    assert timing.num_tokens == 4
    monkeypatch.undo()
    costs = twin.costs(workload.encode(0), length=4, cross_check=False)
    whole = plain.costs(
        make_workload(plain, batch_size=2, max_new_tokens=4, count=2).encode(0),
        length=4,
        cross_check=False,
    )
    assert costs.flops("vision") is None
    for phase in ("prefill", "decode"):
        assert costs.flops(phase) == whole.flops(phase)
        assert costs.moved_bytes[phase] == whole.moved_bytes[phase]


def test_the_cost_command_leaves_the_vision_part_out() -> None:
    lines = list(
        describe_question(
            read_question(["model=llava", "weights=tiny", f"{TWIN},baseline", "convention=exact"])
        )
    )
    assert next(line for line in lines if "visual_tokens" in line).split()[:2] == [
        "optimization",
        "visual_tokens",
    ]
    rows = [line.split() for line in lines if "GFLOP" in line]
    assert [row[0] for row in rows] == ["text_only", "baseline"]
    assert [row[1] for row in rows] == ["0", "64"]
    assert rows[0][3:5] == ["-", "-"]
    assert rows[0][5:7] == rows[1][5:7]


def test_what_needs_a_picture_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="token_pruning needs a picture"):
        TransformersEngine.check(
            compose_point("model=llava", "optimization=[text_only,token_pruning]")
        )
