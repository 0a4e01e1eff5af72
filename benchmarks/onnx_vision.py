"""Mid-size vision towers: eager, bf16, ONNX Runtime and a bare session, interleaved.

    python -m benchmarks.onnx_vision [--threads 2] [--rounds 7] [--width 768] [--layers 10]

One round runs every variant once, so that drift of the machine affects all of them. A ratio is the
median over rounds of eager fp32's time divided by the variant's time in the same round.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from profiling.graphs.export import export_vision
from profiling.graphs.feeds import feeds_of, noise
from profiling.graphs.optimize import optimize_vision
from profiling.graphs.quantize import quantize_vision
from profiling.graphs.vision_chain import load_vision
from profiling.models.loading import find_family
from profiling.models.model import Model
from profiling.models.weights import CHECKPOINTS

SIDES = (224, 448)
# Both kinds of tower: windows of varying sizes, and a class token with learned positions.
TOWERS = ("qwen25vl", "llava")


def make_model(name: str, *, width: int, layers: int) -> Model:
    """A model with a vision part of this size, random values and a tiny language model."""
    kind = find_family(name)
    folder = CHECKPOINTS / "tiny" / name
    config = kind.layout.network_class.config_class.from_pretrained(folder)
    vision = config.vision_config
    vision.hidden_size, vision.intermediate_size = width, 4 * width
    for key in ("depth", "num_hidden_layers"):
        if hasattr(vision, key):
            setattr(vision, key, layers)
    for key in ("num_heads", "num_attention_heads"):
        if hasattr(vision, key):
            setattr(vision, key, width // 64)
    if hasattr(vision, "fullatt_block_indexes"):
        vision.fullatt_block_indexes = list(range(layers // 2 - 1, layers, layers // 2))
    family = kind.load(config=config, folder=folder, processor_options={"local_files_only": True})
    torch.manual_seed(0)
    network: Any = kind.layout.network_class._from_config(
        copy.deepcopy(config), dtype=torch.float32
    )
    network.eval().requires_grad_(False)
    family.layout.adapt(network)
    return Model(
        network=network,
        family=family,
        device=torch.device("cpu"),
        dtype=torch.float32,
        stored_values=False,
    )


def variants(
    model: Model, folder: Path, side: int, threads: int
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    family = model.family
    inputs = noise(family, [(side, side)], seed=0, device=model.device)
    half = replace(model, network=copy.deepcopy(model.network).bfloat16(), dtype=torch.bfloat16)
    halved = {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}
    opened = {"threads": threads, "provider": None, "provider_options": {}}
    yield "eager fp32", lambda: family.layout.embed(model.network, inputs)
    yield "eager bf16", lambda: family.layout.embed(half.network, halved)
    vision = load_vision(folder / "fp32" / "vision_model.onnx", model=model, **opened)
    call = family.layout.vision_arguments(inputs)
    yield "onnx fp32", lambda: vision(inputs["pixel_values"], **call)
    feeds = {name: value.numpy() for name, value in feeds_of(family, inputs).items()}
    (session,) = vision.chain.sessions
    yield "bare session", lambda: session.run(None, feeds)
    kept = load_vision(folder / "optimized" / "vision_model.onnx", model=model, **opened)
    yield "onnx optimized", lambda: kept(inputs["pixel_values"], **call)
    small = load_vision(folder / "int8" / "vision_model.onnx", model=model, **opened)
    yield "onnx int8", lambda: small(inputs["pixel_values"], **call)


def time_rounds(runs: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            # The first round warms up.
            if number:
                times[name].append(time.perf_counter() - begun)
    return times


def export_all(model: Model, folder: Path) -> None:
    exported = folder / "fp32"
    path = export_vision(model, exported, layout="single", parts=1, simplify=False, provider=None)
    for kind in ("int8", "optimized"):
        shutil.copytree(exported, folder / kind)
    quantize_vision(model, folder / "int8" / path.name, kind="int8", provider=None)
    optimize_vision(model, folder / "optimized" / path.name, provider=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("threads", 2), ("rounds", 7), ("width", 768), ("layers", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| tower | side | variant | s | eager fp32 / this |\n|---|---|---|---|---|")
    for name in TOWERS:
        model = make_model(name, width=given.width, layers=given.layers)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            export_all(model, Path(folder))
            for side in SIDES:
                runs = dict(variants(model, Path(folder), side, given.threads))
                with torch.inference_mode():
                    times = time_rounds(runs, given.rounds)
                for variant, found in times.items():
                    pairs = zip(times["eager fp32"], found, strict=True)
                    ratio = statistics.median(plain / one for plain, one in pairs)
                    print(
                        f"| {name} | {side} | {variant} | {statistics.median(found):.4f}"
                        f" | {ratio:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
