"""Prompts that show several pictures or a clip, for tests of every room that runs a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiling.models.model import Prepared
from profiling.models.processing import Shown
from tests.tiny_models import Loaded, make_picture, model_of, take_samples

# Families whose prompts have several pictures, and those that see clips.
SEVERAL = ("llava", "qwen25vl")
CLIPS = ("qwen25vl",)
SHAPES = ((200, 100), (90, 140), (64, 64), (300, 60))


def show(loaded: Loaded, question: str, shown: Shown) -> Prepared:
    sample = replace(take_samples(1)[0], request=question)
    prepared = model_of(loaded).prepare(sample, None)
    prompt = model_of(loaded).family.processing.render_shown(prepared.question, shown)
    return replace(prepared, shown=shown, prompt=prompt)


def pictures(count: int, *, first: int = 0) -> Shown:
    """So many pictures, of several shapes."""
    return Shown(
        pictures=tuple(
            make_picture(*SHAPES[(first + n) % len(SHAPES)], seed=first + n) for n in range(count)
        )
    )


def clip(count: int, *, fps: float = 2.0, shape: tuple[int, int] = (90, 140)) -> Shown:
    frames = tuple(make_picture(*shape, seed=number) for number in range(count))
    return Shown(frames=frames, fps=fps)


def ask_several(loaded: Loaded, counts: Sequence[int] = (1, 3, 2)) -> list[Prepared]:
    """A batch of prompts with different numbers of pictures; of a clip, where there are clips."""
    questions = ("what is this thing over here?", "who", "is it blue or red")
    asked = [
        show(loaded, questions[n % len(questions)], pictures(count, first=n))
        for n, count in enumerate(counts)
    ]
    if loaded.family.name in CLIPS:
        asked.append(show(loaded, "what moves?", clip(5, fps=1.5)))
    return asked
