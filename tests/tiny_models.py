"""The embedded models, loaded once for all tests, and what to feed them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy
import torch
from PIL import Image
from torch import Tensor

from profiling.engines.transformers.optimizations.optimization import build_model
from profiling.engines.workload import Workload
from profiling.models.model import Model, Prepared
from profiling.samples.samples import Sample, load_samples
from tests.composing import CONF, PROJECT, compose_point

FAMILIES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@cache
def load(family: str, *overrides: str) -> Model:
    torch.set_num_threads(1)
    return build_model(compose_point(f"model={family}", *overrides))


@cache
def take_samples(count: int) -> tuple[Sample, ...]:
    return tuple(load_samples(PROJECT / "datasets" / "textvqa", count=count, at_most=None))


def make_picture(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A coarse pattern of colours, so that other seeds differ at any size they are seen at."""
    pattern = numpy.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
    return Image.fromarray(pattern).resize((width, height), Image.Resampling.NEAREST)


def ask(
    model: Model, question: str, picture: Image.Image, prompt_len: int | None = None
) -> Prepared:
    sample = replace(take_samples(1)[0], request=question)
    return replace(model.prepare(sample, prompt_len), picture=picture)


def ask_unevenly(model: Model, count: int) -> list[Prepared]:
    """Up to four questions of several lengths about pictures of several shapes."""
    shapes = ((200, 100), (90, 140), (64, 64), (300, 60))
    questions = ("what is this thing over here?", "who", "is it blue or red", "why")
    pairs = zip(questions[:count], shapes, strict=False)
    return [ask(model, text, make_picture(*shape, seed=i)) for i, (text, shape) in enumerate(pairs)]


def encode(model: Model, asked: Sequence[Prepared], side: int) -> dict[str, Tensor]:
    return model.place(model.encode(asked, side))


def first_logits(model: Model, inputs: dict[str, Tensor], side: int) -> Tensor:  # [B, V]
    """What the library's own generate chooses the first token by."""
    with torch.inference_mode():
        generated = model.network.generate(
            **inputs,
            **model.family.layout.generate_options(side),
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return generated.logits[0].float()


def answer(model: Model, asked: Sequence[Prepared], side: int, length: int = 8) -> list[list[int]]:
    """Exactly so many new tokens for each."""
    inputs = encode(model, asked, side)
    return model.generate(inputs, side=side, length=length, exact=True).tolist()


def row_ids(inputs: dict[str, Tensor], row: int) -> list[int]:
    """The tokens of a row without its padding."""
    return inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()


def make_workload(
    model: Model, *, batch_size: int, max_new_tokens: int, count: int, preload: bool = True
) -> Workload:
    samples = take_samples(count)
    return Workload(
        model=model,
        batches=[samples[i : i + batch_size] for i in range(0, count, batch_size)],
        img_size=compose_point(f"model={model_name(model)}").img_size,
        prompt_len=None,
        max_new_tokens=max_new_tokens,
        preload=preload,
    )


def model_name(model: Model) -> str:
    """The family's name as the command line has it."""
    return model.family.name
