"""What a token costs around ONNX Runtime's own calls, on the embedded models.

    python -m benchmarks.lean_decoding [--model qwen25vl llava] [--tokens 64] [--rounds 40]

Each round generates a short answer and a long one, makes the runtime's calls of the long one again
with the same inputs and nothing around them, and generates both answers with a network that
computes nothing. The order turns from round to round. The overhead is what the long answer takes
beyond the short one and the calls, a token; `library` is the part of it that the library's own loop
takes. CPU time of one thread; medians over rounds, the overhead with its 95% interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.engines.transformers.runtime_cache import RuntimeCache
from profiling.engines.transformers.runtime_decoder import PlainOutput
from profiling.points.configuration import compose_config, read_point
from profiling.points.options import list_families
from profiling.samples.samples import load_samples
from profiling.statistics.medians import bound_median

_SHORT = 4
# What a token is to cost around the calls at most.
MOST_US = 150
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=list_families())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    print(f"us a token: whole, calls, library, overhead [95%] (at most {MOST_US})")
    for name in chosen.model:
        engine, inputs = load(name)
        print(name, describe(measure(engine, inputs, chosen.tokens, chosen.rounds)), flush=True)


def describe(rounds: Mapping[str, list[float]]) -> str:
    ends = bound_median(rounds["overhead"])
    said = "no interval" if ends is None else f"{ends.low:.0f}, {ends.high:.0f}"
    middle = [f"{median(rounds[name]):.0f}" for name in ("whole", "calls", "library", "overhead")]
    return f"{', '.join(middle)} [{said}]"


def load(name: str) -> tuple[TransformersEngine, Inputs]:
    overrides = [f"model={name}", "engine=onnxruntime", "optimization=fp32", "threads=1"]
    point = read_point(compose_config(overrides), device="cpu", cores=1)
    TransformersEngine.prepare_process(point)
    engine = TransformersEngine.load(point)
    samples = load_samples(Path(point.dataset_folder), count=1, at_most=None)
    return engine, engine.place(engine.encode(engine.prepare(samples, None), point.img_size))


def measure(
    engine: TransformersEngine, inputs: Inputs, tokens: int, rounds: int
) -> dict[str, list[float]]:
    """Microseconds a token of each round."""
    steps = list_steps(engine, inputs, tokens)
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        spent = {name: timed(steps[name]) / tokens for name in turned(list(steps), number)}
        whole = spent["long"] - spent["short"]
        figures = {
            "whole": whole,
            "calls": spent["calls"],
            "library": spent["long_empty"] - spent["short_empty"],
            "overhead": whole - spent["calls"],
        }
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return found


def list_steps(engine: TransformersEngine, inputs: Inputs, tokens: int) -> dict[str, Step]:
    calls = record(engine, inputs, _SHORT + tokens)[-tokens:]
    run = decoder_of(engine).program.run
    generating: Any = engine.network.get_submodule(engine.family.layout.generating)
    kind, empty = type(generating), computing_nothing(generating)

    def generate(network: type[Any], length: int) -> Step:
        def step() -> None:
            generating.__class__ = network
            engine.generate(inputs, length=length, exact=True, trace=None)

        return step

    def repeat() -> None:
        for feeds in calls:
            run(feeds)

    return {
        "short": generate(kind, _SHORT),
        "long": generate(kind, _SHORT + tokens),
        "calls": repeat,
        "short_empty": generate(empty, _SHORT),
        "long_empty": generate(empty, _SHORT + tokens),
    }


def computing_nothing(generating: Any) -> type[Any]:
    """The class of a network whose steps after the first give the logits of the first again."""
    kind, last = type(generating), {}

    def call(self: Any, *args: Any, **given: Any) -> Any:
        cache = given.get("past_key_values")
        if isinstance(cache, RuntimeCache):
            cache.length += 1
            return last["output"]
        made = kind.__call__(self, *args, **given)
        last["output"] = PlainOutput(logits=made.logits, past_key_values=made.past_key_values)
        return made

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def turned(names: list[str], by: int) -> list[str]:
    at = by % len(names)
    return names[at:] + names[:at]


def timed(step: Step) -> float:
    """Microseconds of CPU time."""
    begun = time.process_time_ns()
    step()
    return (time.process_time_ns() - begun) / 1e3


def record(engine: TransformersEngine, inputs: Inputs, length: int) -> list[dict[str, Any]]:
    """The inputs of every call of the decoder's graph in one generation."""
    program = decoder_of(engine).program
    run, calls = program.run, []

    def keep(feeds: Any) -> Any:
        calls.append(dict(feeds))
        return run(feeds)

    program.run = keep
    try:
        engine.generate(inputs, length=length, exact=True, trace=None)
    finally:
        del program.run
    return calls


def decoder_of(engine: TransformersEngine) -> Any:
    return engine.network.get_submodule(engine.family.layout.decoder_stack)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
