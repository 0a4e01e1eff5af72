"""Points of `model=auto`, and what has to hold of every network that one runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.engines.engine import Engine
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.workload import Workload
from profiling.points.point import Point
from tests.architectures import ARCHITECTURES, describe
from tests.composing import compose_point
from tests.tiny_models import build, take_samples

# Of the families with files of their own, those whose checkpoints have no chat template.
_PROMPTS = {
    "blip2_opt": "Question: {question} Answer:",
    "blip2_t5": "Question: {question} Answer:",
    "fuyu": "{question}\\n",
}
TOKENS = 5


def compose_auto(name: str, folder: Path, *overrides: str) -> Point:
    prompt = describe(name).prompt if name in ARCHITECTURES else _PROMPTS.get(name)
    given = [] if prompt is None else [f'model.prompt="{prompt}"']
    return compose_point(
        "model=auto",
        "weights=pretrained",
        f"model.checkpoint={folder}",
        f"max_new_tokens={TOKENS}",
        "profiler=quick",
        # Threads of a network this small only wait for each other.
        "threads=1",
        *given,
        *overrides,
    )


def load_auto(name: str, folder: Path, *overrides: str) -> TransformersEngine:
    return build(compose_auto(name, folder, *overrides))


def make_workload(
    engine: Engine, side: int | None, rows: int, *, prompt_len: int | None = None
) -> Workload:
    return Workload(
        engine=engine,
        batches=[take_samples(rows)],
        img_size=side,
        prompt_len=prompt_len,
        max_new_tokens=TOKENS,
        preload=True,
    )


def check_phases(engine: Engine, workload: Workload) -> None:
    """Every phase takes time, and together they take all of it."""
    timing = workload.run_timed(0)
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)
    for phase, seconds in timing.phases_s.items():
        assert seconds >= 0, phase
    for phase in ("vision", "prefill", "decode"):
        assert timing.phases_s[phase] > 0
    assert timing.num_tokens == TOKENS
    assert ("projector" in timing.phases_s) == ("projector" not in engine.blind)
