"""What a step of decoding costs around the runtime's own call, on the embedded models.

    python -m benchmarks.decode_overhead [--model qwen25vl llava] [--tokens 64] [--rounds 40]

CPU time of one thread a token: the whole step, the step with a runtime that answers at once, and
the library's loop alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from profiling.engines.transformers.engine import Inputs, TransformersEngine
from profiling.engines.transformers.runtime_decoder import PlainOutput, RuntimeCache
from profiling.points.configuration import compose_config, read_point
from profiling.points.options import list_families
from profiling.samples.samples import load_samples

_SHORT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=list_families())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    print("us a token  whole  around the runtime's call  library alone")
    for name in chosen.model:
        print(name, *measure(name, chosen.tokens, chosen.rounds), flush=True)


def measure(name: str, tokens: int, rounds: int) -> list[str]:
    engine, inputs = load(name)
    steps = dict(variants(engine))
    spent: dict[tuple[str, int], float] = {}
    for round_ in range(rounds + 1):
        for variant, enter in steps.items():
            enter()
            for length in (_SHORT, _SHORT + tokens):
                begun = time.process_time()
                engine.generate(inputs, length=length, exact=True, trace=None)
                passed = time.process_time() - begun
                # The first round fills what later ones take from.
                least = spent.get((variant, length), passed) if round_ > 1 else passed
                spent[variant, length] = min(passed, least)
    cost = {v: (spent[v, _SHORT + tokens] - spent[v, _SHORT]) / tokens * 1e6 for v in steps}
    return [f"{cost[variant]:.0f}" for variant in steps]


def load(name: str) -> tuple[TransformersEngine, Inputs]:
    overrides = [f"model={name}", "engine=onnxruntime", "optimization=fp32", "threads=1"]
    point = read_point(compose_config(overrides), device="cpu", cores=1)
    TransformersEngine.prepare_process(point)
    engine = TransformersEngine.load(point)
    samples = load_samples(Path(point.dataset_folder), count=1, at_most=None)
    return engine, engine.place(engine.encode(engine.prepare(samples, None), point.img_size))


def variants(engine: TransformersEngine) -> list[tuple[str, Callable[[], None]]]:
    """What brings the engine into each form that is measured."""
    layout = engine.family.layout
    decoder: Any = engine.network.get_submodule(layout.decoder_stack)
    generating: Any = engine.network.get_submodule(layout.generating)
    run, kind = decoder.program.run, type(generating)
    last: dict[str, Any] = {}

    def keep(feeds: Any) -> Any:
        last["made"] = run(feeds)
        return last["made"]

    def call(self: Any, *args: Any, **given: Any) -> Any:
        cache = given.get("past_key_values")
        if isinstance(cache, RuntimeCache):
            cache.length += 1
            return last["output"]
        made = kind.__call__(self, *args, **given)
        last["output"] = PlainOutput(logits=made.logits, past_key_values=made.past_key_values)
        return made

    bare = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})

    def form(program: Any, network: type[Any]) -> Callable[[], None]:
        def enter() -> None:
            decoder.program.run, generating.__class__ = program, network

        return enter

    return [
        ("whole", form(keep, kind)),
        ("around", form(lambda _: list(last["made"]), kind)),
        ("library", form(lambda _: list(last["made"]), bare)),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
