"""The calls of a point's network while it answers samples: alone, and in one uneven batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from profiling.captures.capturing import Bounds, Capturing
from profiling.captures.weight_files import save_weights
from profiling.engines.engine import find_engine
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from profiling.models.positions import check_length
from profiling.models.processing import Shown
from profiling.points.point import Point
from profiling.samples.showing import load_point

# Width by height that the pictures of an uneven batch are cut to, in turn.
SHAPES = (2.0, 0.65, 1.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is answered: samples one at a time, then a batch of other samples and shapes."""

    samples: int
    uneven: int
    tokens: int


def load_engine(point: Point) -> Any:
    """The engine of a point, with the network in this process."""
    kind = find_engine(point)
    if not issubclass(kind, TransformersEngine):
        raise Unsupported(f"engine={point.engine}: it has no modules in this process to capture")
    kind.check(point)
    kind.prepare_process(point)
    engine: Any = kind.load(point)
    return engine


def capture_point(
    point: Point, run: Run, bounds: Bounds, folder: Path, *, overrides: Sequence[str], weights: bool
) -> None:
    engine = load_engine(point)
    text = engine.network.config.get_text_config()
    check_length("--tokens", run.tokens, getattr(text, "max_position_embeddings", None))
    batches = encode_batches(engine, point, run)
    facts = {
        "point": {"overrides": list(overrides), "parts": _paths_of_parts(engine)},
        "run": {"samples": run.samples, "uneven": run.uneven, "tokens": run.tokens},
        # Compiled code runs eagerly while it is captured.
        "compiled": False,
    }
    capturing = Capturing(engine.network, folder, bounds, facts=facts, weights=weights)
    with capturing:
        for number, batch in enumerate(batches, start=1):
            # Each batch has its share of the calls, so that none of them fills the capture.
            capturing.limit = -(-bounds.calls * number // len(batches))
            engine.generate(batch, length=run.tokens, exact=True, trace=None)


def encode_batches(engine: Any, point: Point, run: Run) -> list[Any]:
    count = run.samples + run.uneven
    samples = load_point(point, count=count, at_most=None)
    type(engine).check_samples(point, samples)
    prepared = engine.prepare(samples, point.prompt_len)
    alone = [[one] for one in prepared[: run.samples]]
    uneven = [
        replace(one, shown=cut_shown(one.shown, SHAPES[i % len(SHAPES)]))
        for i, one in enumerate(prepared[run.samples :])
    ]
    return [
        engine.place(engine.encode(batch, point.img_size)) for batch in [*alone, uneven] if batch
    ]


def cut_shown(shown: Shown, shape: float) -> Shown:
    pictures, frames = (
        tuple(_cut(picture, shape) for picture in listed)
        for listed in (shown.pictures, shown.frames)
    )
    return replace(shown, pictures=pictures, frames=frames)


def _cut(picture: Image.Image, shape: float) -> Image.Image:
    """The middle of a picture, as wide by its height as `shape` says."""
    width = min(picture.width, max(1, round(picture.height * shape)))
    height = min(picture.height, max(1, round(width / shape)))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _paths_of_parts(engine: Any) -> dict[str, str]:
    """Where in the network the parts are, by the part's name."""
    paths = {id(module): path for path, module in engine.network.named_modules()}
    return {
        part: paths[id(modules[0])]
        for part, modules in engine.loaded.parts().items()
        if modules and id(modules[0]) in paths
    }


def save_point_weights(point: Point, path: Path, *, part: str | None) -> int:
    """The weights of a point's network, or of one part of it; how many tensors."""
    engine = load_engine(point)
    if part is None:
        return save_weights(engine.network, path)
    found = _paths_of_parts(engine)
    if part not in found:
        raise Unsupported(f"this network has no {part} part of its own; it has {', '.join(found)}")
    return save_weights(engine.network, path, below=(found[part],))
