"""What scaling before rounding saves: likelihood of references by way of quantizing, at equal bits.

    python -m benchmarks.awq [--family llava qwen25vl] [--samples 40] [--json benchmarks/awq.json]

Each way quantizes the same layers of the language part of an embedded checkpoint: as it was
trained, and with outliers planted into the activations. The embedded checkpoints are small and have
none. Planting multiplies a few channels of every norm and divides the weights behind it, so the
function in single precision stays; that is checked before anything is quantized.

Two likelihoods are shown. That of the references is what records have; a few references are spelled
in another case than any model answers in, and decide its mean and its interval. That of the answers
which the plain network gives has no such samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.awq import Awq, pack_layer
from profiling.machine.machine import describe_machine
from profiling.models.model import Model
from profiling.models.quantization import (
    Quantization,
    be_quiet,
    computes_in,
    group_layers,
    quantize_in_place,
)
from profiling.models.quantizers import BITSANDBYTES, REFERENCE, TORCHAO
from profiling.models.storage import stored_tensors
from profiling.points.point import Point
from profiling.quality.normalizing import normalize
from profiling.runs.experiment import answer
from profiling.samples.samples import Sample, load_samples
from profiling.statistics.means import estimate_mean
from profiling.statistics.skewed_means import bound_mean
from tests.composing import compose_point
from tests.engines.transformers.optimizations.planting import plant_outliers

GROUP = 64
# Of the largest logit, how far planting may move any: what rounding in single precision does.
_ALLOWED = 2e-5
_PLAIN = "float32"


@dataclass(kw_only=True)
class Plain:
    """What the network gives before it is quantized."""

    answers: list[str] = field(default_factory=list)
    references: list[float] = field(default_factory=list)  # their likelihoods
    own: list[float] = field(default_factory=list)  # those of the answers


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of quantizing layers of a loaded model in place."""

    name: str
    quantization: Quantization | None
    apply: Callable[[Model, list[str], Point], None]


def keep(_model: Model, _layers: list[str], _point: Point) -> None:
    """Nothing is quantized."""


def scale_and_round(model: Model, _layers: list[str], point: Point) -> None:
    awq = Awq(**point.optimization_settings["awq"])
    awq.check(point)
    awq.apply(LoadedModel(model=model))


def only_round(model: Model, layers: list[str], _point: Point) -> None:
    """The same steps and groups without scales."""
    for path in layers:
        pack_layer(model.network, path, bits=4, group=GROUP)


def by_library(quantization: Quantization) -> Callable[[Model, list[str], Point], None]:
    def apply(model: Model, layers: list[str], _point: Point) -> None:
        quantize_in_place(model.network, layers, quantization, model.dtype)

    return apply


def list_ways() -> Iterator[Way]:
    yield Way(name=_PLAIN, quantization=None, apply=keep)
    rounded = Quantization(bits=4, engine=REFERENCE)
    yield Way(name="awq", quantization=rounded, apply=scale_and_round)
    yield Way(name="rounded, without scales", quantization=rounded, apply=only_round)
    libraries = {
        "int4, bitsandbytes (nf4)": Quantization(bits=4, engine=BITSANDBYTES),
        "int4, torchao": Quantization(bits=4, engine=TORCHAO),
        "int8, bitsandbytes": Quantization(bits=8, engine=BITSANDBYTES, outlier_threshold=6.0),
    }
    for name, quantization in libraries.items():
        if find_spec(quantization.engine) is None:
            print(f"{name}: {quantization.engine} is not installed")
        else:
            yield Way(name=name, quantization=quantization, apply=by_library(quantization))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", nargs="+", default=["llava", "qwen25vl"])
    parser.add_argument("--dataset", default="textvqa")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--factor", type=float, default=30, help="of the planted outliers")
    parser.add_argument("--channels", type=int, default=6, help="planted in each norm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    be_quiet()
    rows = [row for family in options.family for row in measure_family(family, options)]
    machine = describe_machine()
    found = {
        "date": date.today().isoformat(),
        "machine": f"{machine.cpu_model}, {machine.cpu_count} cores",
        "settings": {name: value for name, value in vars(options).items() if name != "json"},
        "rows": rows,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure_family(family: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    point = compose_point(
        f"model={family}",
        f"dataset={options.dataset}",
        "optimization=awq",
        f"optimization.awq.group={GROUP}",
        f"optimization.awq.seed={options.seed}",
        f"batch_size={options.samples}",
        "max_new_tokens=16",
        "device=cpu",
        "threads=1",
    )
    samples = load_samples(Path(point.dataset_folder), count=options.samples, at_most=None)
    plain = compose_point(f"model={family}", "device=cpu", "threads=1")
    print(f"{family}, {options.dataset}, {len(samples)} samples")
    for planted in (False, True):
        plain_run = Plain()
        for way in list_ways():
            engine = TransformersEngine.load(plain)
            if planted:
                plant(engine, point, samples[:2], options)
            row = measure_way(way, engine, point, samples, plain_run)
            yield {"family": family, "planted": planted, **row}


def plant(
    engine: TransformersEngine,
    point: Point,
    samples: Sequence[Sample],
    options: argparse.Namespace,
) -> None:
    """Plant outliers, and end here if that changes what the network computes."""
    before = first_logits(engine, point, samples)
    plant_outliers(
        engine.network,
        engine.family,
        factor=options.factor,
        count=options.channels,
        seed=options.seed,
    )
    moved = float((first_logits(engine, point, samples) - before).abs().max() / before.abs().max())
    if moved > _ALLOWED:
        raise SystemExit(f"planting moved a logit by {moved:.1e} of the largest")


def first_logits(
    engine: TransformersEngine, point: Point, samples: Sequence[Sample]
) -> Tensor:  # [B, V]
    inputs = engine.encode(engine.prepare(samples, None), point.img_size)
    with torch.inference_mode():
        generated = engine.network.generate(
            **engine.place(inputs),
            **engine.family.layout.generate_options(point.side),
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logits: Tensor = generated.logits[0].float()
    return logits


def measure_way(
    way: Way,
    engine: TransformersEngine,
    point: Point,
    samples: Sequence[Sample],
    plain: Plain,
) -> dict[str, Any]:
    """Likelihood, answers and size; the first way quantizes nothing, and fills in `plain`."""
    model = engine.model
    layers = list(group_layers(model.network, model.family, GROUP))
    way.apply(model, layers, point)
    stored = bits_per_weight(model, layers)
    size = model.parameter_bytes()
    lines = list(answer(point, samples, engine))
    plain.answers = plain.answers or [line["answer"] for line in lines]
    references = [float(line["reference_nll"]) for line in lines]
    own = answer_nlls(engine, point, samples, plain.answers)
    plain.references, plain.own = plain.references or references, plain.own or own
    right = sum(normalize(line["answer"]) in map(normalize, line["references"]) for line in lines)
    row = {
        "way": way.name,
        "bits_per_weight": stored,
        "model_bytes": size,
        "computes_in": computes_in(model.dtype, model.device, way.quantization),
        "answers_nll": describe(own, plain.own),
        "references_nll": describe(references, plain.references),
        "wer": sum(line["wer"] for line in lines) / len(lines),
        "exact_answers": right,
        "samples": len(lines),
    }
    show(row)
    return row


def answer_nlls(
    engine: TransformersEngine, point: Point, samples: Sequence[Sample], answers: Sequence[str]
) -> list[float]:
    """How likely the network finds each answer of the plain one, in nats a token."""
    inputs = engine.place(engine.encode(engine.prepare(samples, None), point.img_size))
    nlls = engine.reference_nlls(inputs, answers, 1)
    assert None not in nlls, "the network gave no numbers"
    return [float(nll) for nll in nlls if nll is not None]


def describe(nlls: Sequence[float], plain: Sequence[float]) -> dict[str, Any]:
    """The mean, how far it is above the plain network's sample by sample, and their intervals."""
    interval = bound_mean(nlls)
    assert interval is not None
    more = estimate_mean([own - other for own, other in zip(nlls, plain, strict=True)])
    return {
        "mean": sum(nlls) / len(nlls),
        "ci": [interval.low, interval.high],
        "more": more.value,
        "more_ci": [more.interval.low, more.interval.high],
    }


def bits_per_weight(model: Model, layers: Sequence[str]) -> float:
    """Bits of the stored layers, scales in and biases out, over their values."""
    bits = values = 0
    for path in layers:
        layer: Any = model.network.get_submodule(path)
        values += layer.in_features * layer.out_features
        bits += 8 * sum(tensor.nbytes for tensor in stored_tensors(layer))
        bits -= 8 * (0 if layer.bias is None else layer.bias.nbytes)
    return bits / values


def show(row: dict[str, Any]) -> None:
    shown = ""
    for kind in ("answers", "references"):
        nll = row[f"{kind}_nll"]
        (low, high), (less, most) = nll["ci"], nll["more_ci"]
        shown += f"  {kind} {nll['mean']:.4f} [{low:.4f}, {high:.4f}]"
        shown += f" {nll['more']:+.4f} [{less:+.4f}, {most:+.4f}]"
    print(
        f"  {row['way']:26}{row['bits_per_weight']:6.2f} bits{row['model_bytes'] / 1e6:7.2f} MB"
        f"{shown}  WER {row['wer']:.3f}  right {row['exact_answers']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
