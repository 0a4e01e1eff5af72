"""The embedded models, loaded once for all tests, and what to feed them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy
import torch
from PIL import Image
from torch import Tensor

from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.workload import Workload
from profiling.models.model import Model, Prepared
from profiling.models.processing import Shown
from profiling.points.options import list_families
from profiling.points.point import Point
from profiling.samples.samples import Sample, load_samples
from tests.composing import PROJECT, compose_point

FAMILIES = list_families()

# What tests hold: an engine with its stack of optimizations, or the plain model alone.
Loaded = Model | TransformersEngine


@cache
def load(family: str, *overrides: str) -> TransformersEngine:
    return build(compose_point(f"model={family}", *overrides))


def build(point: Point) -> TransformersEngine:
    """An engine of a test's own, that it may change."""
    engine = TransformersEngine.load(point)
    # Tests run side by side, each on one thread.
    torch.set_num_threads(1)
    return engine


def model_of(loaded: Loaded) -> Model:
    return loaded.model if isinstance(loaded, TransformersEngine) else loaded


@cache
def take_samples(count: int) -> tuple[Sample, ...]:
    return tuple(load_samples(PROJECT / "datasets" / "textvqa", count=count, at_most=None))


def make_picture(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A coarse pattern of colours, so that other seeds differ at any size they are seen at."""
    pattern = numpy.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
    return Image.fromarray(pattern).resize((width, height), Image.Resampling.NEAREST)


def ask(
    loaded: Loaded, question: str, picture: Image.Image, prompt_len: int | None = None
) -> Prepared:
    sample = replace(take_samples(1)[0], request=question)
    shown = Shown(pictures=(picture,))
    return replace(model_of(loaded).prepare(sample, prompt_len), shown=shown)


def ask_unevenly(loaded: Loaded, count: int) -> list[Prepared]:
    """Up to four questions of several lengths about pictures of several shapes."""
    shapes = ((200, 100), (90, 140), (64, 64), (300, 60))
    questions = ("what is this thing over here?", "who", "is it blue or red", "why")
    pairs = zip(questions[:count], shapes, strict=False)
    return [
        ask(loaded, text, make_picture(*shape, seed=i)) for i, (text, shape) in enumerate(pairs)
    ]


def encode(loaded: Loaded, asked: Sequence[Prepared], side: int | None) -> dict[str, Tensor]:
    model = model_of(loaded)
    return model.place(model.encode(asked, side))


def first_logits(loaded: Loaded, inputs: dict[str, Tensor], side: int | None) -> Tensor:  # [B, V]
    """What the library's own generate chooses the first token by."""
    with torch.inference_mode():
        generated = loaded.network.generate(
            **inputs,
            **({} if side is None else loaded.family.layout.generate_options(side)),
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return generated.logits[0].float()


def answer(
    loaded: Loaded, asked: Sequence[Prepared], side: int, length: int = 8
) -> list[list[int]]:
    """Exactly so many new tokens for each."""
    inputs = encode(loaded, asked, side)
    if isinstance(loaded, Model):
        return loaded.generate(inputs, side=side, length=length, exact=True).tolist()
    given = Inputs(inputs, side=side)
    return loaded.generate(given, length=length, exact=True, trace=None).tolist()


def generate(workload: Workload, index: int, *, length: int | None = None) -> Tensor:
    """The new tokens of the pass that a probe runs, which hands none back."""
    engine = workload.engine
    inputs = engine.place(workload.encode(index))
    tokens = engine.generate(
        inputs, length=length or workload.max_new_tokens, exact=True, trace=None
    )
    assert isinstance(tokens, Tensor)
    return tokens


def row_ids(inputs: dict[str, Tensor], row: int) -> list[int]:
    """The tokens of a row without its padding."""
    return inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()


def make_workload(
    engine: TransformersEngine,
    *,
    batch_size: int,
    max_new_tokens: int,
    count: int,
    preload: bool = True,
) -> Workload:
    samples = take_samples(count)
    return Workload(
        engine=engine,
        batches=[samples[i : i + batch_size] for i in range(0, count, batch_size)],
        img_size=compose_point(f"model={model_name(engine)}").img_size,
        prompt_len=None,
        max_new_tokens=max_new_tokens,
        preload=preload,
    )


def wrap(model: Model) -> TransformersEngine:
    """An engine without optimizations around a model that a test has made."""
    return TransformersEngine(loaded=LoadedModel(model=model), stack=())


def model_name(loaded: Loaded) -> str:
    """The family's name as the command line has it."""
    return loaded.family.name
