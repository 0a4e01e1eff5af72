"""Measures the harness's overhead: `python -m benchmarks.overhead [family …]`.

The same batch runs in the same process, alternating between a bare loop on the library's objects
and the timed workload with all its hooks. The target is a ratio within 1% of one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.workload import Workload
from profiling.statistics.ratios import compare_pairs
from tests.tiny_models import FAMILIES, load, make_workload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40, help="pairs of a bare and a timed pass")
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("families", nargs="*", default=FAMILIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':12}{'bare':>10}{'timed':>10}{'timed / bare':>14}   interval of the ratio")
    for family in options.families:
        bare_s, timed_s = compare(family, options.repeats, options.tokens, options.batch_size)
        ratio = compare_pairs(timed_s, bare_s)
        shown = f"{ratio.low:.4f} to {ratio.high:.4f}" if ratio.low and ratio.high else "too few"
        medians = (statistics.median(values) * 1e3 for values in (bare_s, timed_s))
        columns = "".join(f"{value:7.1f} ms" for value in medians)
        print(f"{family:12}{columns}{ratio.value:14.4f}   {shown}", flush=True)


def compare(
    family: str, repeats: int, tokens: int, batch_size: int
) -> tuple[list[float], list[float]]:
    """Pairs of times; the order within a pair alternates."""
    engine = load(family)
    workload = make_workload(engine, batch_size=batch_size, max_new_tokens=tokens, count=batch_size)
    pass_once = bare_pass(engine, workload)

    # Hooks are registered during the timed pass only: the bare pass must not have any.
    def timed() -> float:
        latency_s = workload.run_timed(0).latency_s
        engine.remove_hooks()
        return latency_s

    for _ in range(3):
        pass_once(), timed()
    bare_s, timed_s = [], []
    for repeat in range(repeats):
        if repeat % 2:
            timed_s.append(timed())
            bare_s.append(clock(pass_once))
        else:
            bare_s.append(clock(pass_once))
            timed_s.append(timed())
    return bare_s, timed_s


def clock(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def bare_pass(engine: TransformersEngine, workload: Workload) -> Callable[[], None]:
    """Processor, `.to`, `generate`, without any code of the project in between."""
    model, tokens = engine.model, workload.max_new_tokens
    network, encode = model.network, model.family.processing.encode
    prepared = engine.prepare(workload.batches[0], workload.prompt_len)
    pictures, texts = [p.picture for p in prepared], [p.prompt for p in prepared]
    side, device, dtype = workload.img_size, model.device, model.dtype
    options: Mapping[str, Any] = model.family.layout.generate_options(side)

    def run() -> None:
        inputs = encode(pictures, texts, side).to(device, dtype)
        with torch.inference_mode():
            network.generate(
                **inputs,
                **options,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
            )

    return run


if __name__ == "__main__":
    main()
