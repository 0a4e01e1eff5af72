"""Makes the batch of a training step from the seed and the step number only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy
import torch
from torch import Tensor

from training.families.family import Family, Size
from training.lexicon import NEUTRAL_WORDS
from training.plan import Plan
from training.scenes import (
    STEPPING_STONES,
    TASKS,
    PictureSize,
    Scene,
    draw_sign,
    label_patches,
)

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures of one size with prompts and answers."""

    tasks: tuple[str, ...]
    grid: Size
    pixels: dict[str, Tensor]
    prompts: list[list[int]]
    answers: list[list[int]]
    patch_labels: Tensor


def make_batch(family: Family, plan: Plan, *, seed: int, step: int) -> Batch:
    """The batch of a step; it depends on the seed and the step only."""
    random = Random(f"{seed}/{step}")
    share = step / plan.steps
    long = share >= plan.long_from_share and random.random() < plan.long_rate
    size = plan.long_batch_size if long else plan.size_at(step)
    tasks = _choose_tasks(random, plan, step, size)
    sign = partial(draw_sign, doubled_rate=plan.doubled_rate)
    draw: dict[str, Callable[..., Scene]] = {**TASKS, **STEPPING_STONES, "sign": sign}
    shape = _choose_shape(random, family, plan)
    scenes = [draw[task](random, held_out=False, size=shape) for task in tasks]
    grid = _choose_grid(random, family, plan, share, shape)
    most = plan.long_words if long else plan.filler_words
    # The whole batch or none of it: rows are padded to the longest one.
    fills = long or (share >= plan.filler_from_share and random.random() < plan.filler_rate)
    questions = [_fill(random, scene.request, most if fills else 0) for scene in scenes]
    return Batch(
        tasks=tasks,
        grid=grid,
        pixels=family.pixels([scene.picture for scene in scenes], grid),
        prompts=[family.prompt_ids(question, grid) for question in questions],
        answers=[family.answer_ids(scene.answer) for scene in scenes],
        patch_labels=family.order_labels(_label(scenes, family.label_grid(grid))),
    )


def join(prompts: list[list[int]], answers: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """One sequence per row, with next-token labels over the answer only."""
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = numpy.full((len(prompts), longest), pad)
    labels = numpy.full((len(prompts), longest), IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = len(prompt) + len(answer)
        ids[row, :whole] = prompt + answer
        labels[row, len(prompt) - 1 : whole - 1] = answer
    return torch.from_numpy(ids), torch.from_numpy(labels)


def pad_rows(rows: list[list[int]], pad: int) -> Tensor:
    """Rows of ids, padded on the right."""
    padded = numpy.full((len(rows), max(map(len, rows))), pad)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


def _choose_tasks(random: Random, plan: Plan, step: int, size: int) -> tuple[str, ...]:
    mix = plan.mix_at(step)
    return tuple(random.choices(list(mix), weights=list(mix.values()), k=size))


def _choose_shape(random: Random, family: Family, plan: Plan) -> PictureSize | None:
    """One shape for all pictures; None: each keeps its own and all are resized to squares."""
    if not family.shaped or random.random() >= plan.shaped_rate:
        return None
    return random.choice(list(family.shaped))


def _choose_grid(
    random: Random, family: Family, plan: Plan, share: float, shape: PictureSize | None
) -> Size:
    if shape is not None:
        return family.shaped[shape]
    other = random.random() < plan.other_sizes_rate
    if other and share >= plan.other_sizes_from_share:
        return random.choice(family.others)
    return family.native


def _fill(random: Random, question: str, most: int) -> str:
    count = random.randint(0, most)
    # Prompts may be padded with one repeated word or with varied ones: train on both.
    words = NEUTRAL_WORDS if random.random() < 0.5 else (random.choice(NEUTRAL_WORDS),)
    return " ".join([*random.choices(words, k=count), question])


def _label(scenes: Sequence[Scene], grid: Size) -> numpy.ndarray:
    return numpy.stack([label_patches(scene.marks, *grid) for scene in scenes])
