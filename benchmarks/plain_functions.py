"""Seconds a token of plain functions beside the library's network, interleaved.

    python -m benchmarks.plain_functions [--family qwen25vl] [--size tiny mid] [--rounds 15]

`tiny` is the embedded checkpoint, `mid` a network of about 200 M random values. One round runs
every variant once, so that drift of the machine affects all of them; a ratio is the median over
rounds of the time of transformers in eager mode divided by the variant's time in the same round. A
variant that this machine cannot have (a package, a compiler) is left out with the reason.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from profiling.engines.engine import Engine
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.models.loading import find_family
from profiling.models.weights import CHECKPOINTS
from profiling.points.point import Point
from profiling.runs.experiment import load
from profiling.samples.samples import full_batches, load_samples
from tests.composing import compose_point

EAGER = "transformers, eager"
VARIANTS = {
    EAGER: ("engine=torch",),
    "transformers, compiled": ("engine=torch", "optimization=[fp32,compile]"),
    "functions, numpy": ("engine=functional", "engine.library=numpy"),
    "functions, torch": ("engine=functional", "engine.library=torch"),
    "functions, jax (jit)": ("engine=functional", "engine.library=jax"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="qwen25vl")
    parser.add_argument("--size", nargs="+", choices=("tiny", "mid"), default=("tiny", "mid"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plain-functions-") as folder:
        for size in options.size:
            chosen = [f"model={options.family}", f"threads={options.threads}"]
            if size == "mid":
                make_mid_size(options.family, Path(folder))
                chosen += ["weights=pretrained", f"model.checkpoint={folder}"]
            compare(size, chosen, rounds=options.rounds, tokens=options.tokens)


def make_mid_size(family: str, folder: Path) -> None:
    """A checkpoint of the family with wider and more layers, random values and the tiny words."""
    kind, source = find_family(family), CHECKPOINTS / "tiny" / family
    config = kind.layout.network_class.config_class.from_pretrained(source)
    widen(config.text_config)
    if hasattr(getattr(config, "vision_config", None), "out_hidden_size"):
        config.vision_config.out_hidden_size = config.text_config.hidden_size
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    torch.manual_seed(0)
    network: Any = kind.layout.network_class._from_config(copy.deepcopy(config))
    network.save_pretrained(folder)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"mid: {millions:.0f} M values")


def widen(text: Any) -> None:
    """Twelve layers with a width of 1024; where a head is told by its width, it keeps to 64."""
    for name, value in {
        **dict.fromkeys(("hidden_size", "d_model", "word_embed_proj_dim"), 1024),
        **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff"), 4096),
        **dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers"), 12),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), 16),
        **dict.fromkeys(("head_dim", "d_kv"), 64),
    }.items():
        if getattr(text, name, None) is not None:
            setattr(text, name, value)
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}):
        text.rope_parameters["mrope_section"] = [8, 12, 12]
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = ["full_attention"] * text.num_hidden_layers


def compare(size: str, chosen: Sequence[str], *, rounds: int, tokens: int) -> None:
    workloads = {}
    for name, overrides in VARIANTS.items():
        try:
            point = compose_point(*chosen, *overrides, f"max_new_tokens={tokens}")
            workloads[name] = settled(point)
        except Unsupported as reason:
            print(f"{name}: {reason}")
    times: dict[str, list[float]] = {name: [] for name in workloads}
    for number in range(rounds):
        for name, workload in workloads.items():
            seconds = workload.run_timed(number).tpot_s
            assert seconds is not None
            times[name].append(seconds)
    print(f"{size:24}{'ms a token':>12}{'times as fast':>15}")
    for name, values in times.items():
        ratios = [eager / own for eager, own in zip(times[EAGER], values, strict=True)]
        print(f"{name:24}{statistics.median(values) * 1e3:12.2f}{statistics.median(ratios):15.2f}")


def settled(point: Point) -> Workload:
    """A few samples, with everything compiled and run once that a pass takes."""
    samples = load_samples(Path(point.dataset_folder), count=4, at_most=None)
    engine: Engine = load(point).engine
    workload = Workload(
        engine=engine,
        batches=full_batches(samples, point.batch_size),
        img_size=point.img_size,
        prompt_len=point.prompt_len,
        max_new_tokens=point.max_new_tokens,
        preload=True,
    )
    engine.settle(workload)
    for index in range(len(workload.batches)):
        workload.run_timed(index)
    return workload


if __name__ == "__main__":
    main()
