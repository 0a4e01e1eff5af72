"""Measures what capturing costs: `python -m benchmarks.capture_cost [family ...]`.

An uneven batch of two is answered plainly and with every call of every module captured to disk, in
turn (A B B A ...), in CPU time, which depends less on what else runs. The target is a capture of at
most 5 times the plain run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

import torch

from benchmarks.overhead import alternate
from profiling.captures import capture
from profiling.captures.folder import DESCRIPTION
from profiling.machine.machine import describe_machine
from profiling.points.options import list_families
from tests.tiny_models import answer, ask_unevenly, load

LIMIT = 5.0
SIDE, ROWS = 112, 2
WARM_UP = 2
# More than any module has.
_EVERY_CALL = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("families", nargs="*", default=list_families(), metavar="family")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_machine().cpu_model}; {chosen.tokens} tokens, {chosen.pairs} pairs")
    print()
    print("| family | calls | plain | captured | captured / plain | middle half | at most 5 |")
    print("|---|---:|---:|---:|---:|---|---|")
    for family in chosen.families:
        print(f"| {' | '.join(measure(family, chosen.pairs, chosen.tokens))} |", flush=True)


def measure(family: str, pairs: int, tokens: int) -> Sequence[str]:
    engine = load(family)
    asked = ask_unevenly(engine, ROWS)
    calls: list[int] = []

    def run_plainly() -> None:
        answer(engine, asked, SIDE, tokens)

    def run_captured() -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "calls"
            with capture(engine.network, folder, calls=_EVERY_CALL, weights=False):
                run_plainly()
            calls.append(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["calls"])

    def times(run: Callable[[], None]) -> Callable[[], tuple[float, float]]:
        def timed() -> tuple[float, float]:
            begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
            run()
            return time.perf_counter() - begun_s, time.process_time() - begun_cpu_s

        return timed

    for _ in range(WARM_UP):
        run_plainly(), run_captured()
    captured, plain = alternate(times(run_captured), times(run_plainly), pairs)
    ratios = [one[1] / other[1] for one, other in zip(captured, plain, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    seconds = (f"{median(t[1] for t in side) * 1e3:.0f} ms" for side in (plain, captured))
    verdict = "yes" if median(ratios) <= LIMIT else "no"
    ratio = f"{median(ratios):.2f}"
    return [family, str(calls[-1]), *seconds, ratio, f"{low:.2f} to {high:.2f}", verdict]


if __name__ == "__main__":
    main()
