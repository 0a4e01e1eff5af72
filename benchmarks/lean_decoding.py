"""What a token costs around ONNX Runtime's own calls, on the embedded models.

    python -m benchmarks.lean_decoding [--model qwen25vl llava] [--tokens 64] [--rounds 40]

Each round generates a short answer and a long one, and makes the runtime's calls of the long one
again, with the same inputs and nothing around them. The order of the three turns from round to
round. The overhead is what the long answer takes beyond the short one and the calls, a token. CPU
time of one thread; medians over rounds with 95% intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

from benchmarks.decode_overhead import load
from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.points.options import list_families
from profiling.statistics.medians import bound_median

_SHORT = 4
# What a token is to cost around the calls at most.
MOST_US = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=list_families())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    print(f"us a token: whole, the runtime's calls, overhead [95%] (at most {MOST_US})")
    for name in chosen.model:
        engine, inputs = load(name)
        print(name, describe(measure(engine, inputs, chosen.tokens, chosen.rounds)), flush=True)


def describe(rounds: Mapping[str, list[float]]) -> str:
    whole, calls, overhead = (median(rounds[name]) for name in ("whole", "calls", "overhead"))
    ends = bound_median(rounds["overhead"])
    said = "no interval" if ends is None else f"{ends.low:.0f}, {ends.high:.0f}"
    return f"{whole:.0f}, {calls:.0f}, {overhead:.0f} [{said}]"


def measure(
    engine: TransformersEngine, inputs: Inputs, tokens: int, rounds: int
) -> dict[str, list[float]]:
    """Microseconds a token of each round."""
    calls = record(engine, inputs, _SHORT + tokens)[-tokens:]
    run = decoder_of(engine).program.run

    def generate(length: int) -> None:
        engine.generate(inputs, length=length, exact=True, trace=None)

    def repeat() -> None:
        for feeds in calls:
            run(feeds)

    steps = {
        "short": lambda: generate(_SHORT),
        "long": lambda: generate(_SHORT + tokens),
        "calls": repeat,
    }
    found: dict[str, list[float]] = {"whole": [], "calls": [], "overhead": []}
    for step in steps.values():
        step()
    for number in range(rounds):
        spent = {name: timed(steps[name]) for name in turned(list(steps), number)}
        whole = (spent["long"] - spent["short"]) / tokens
        call = spent["calls"] / tokens
        found["whole"].append(whole)
        found["calls"].append(call)
        found["overhead"].append(whole - call)
    return found


def turned(names: list[str], by: int) -> list[str]:
    at = by % len(names)
    return names[at:] + names[:at]


def timed(step: Callable[[], None]) -> float:
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
