"""Measures the harness's overhead: `python -m benchmarks.overhead [family …]`.

In each of several fresh processes (launches), timed passes of the harness alternate with bare ones
(A B B A): the library's processor, `.to` and `generate` on the same batch, without any code of the
project. A launch gives the median log ratio of its pairs, which single disturbances do not move;
the estimate is the mean over launches, with the interval of Student's t. The target is an interval
within 1% of one. The same is stated for CPU time, which depends less on what else runs.

Every launch is written to `launches.jsonl` in the output folder, and the same command goes on from
what is there. `overhead.md` has the table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp
from pathlib import Path
from statistics import median
from typing import Any

from profiling.machine.machine import describe_machine
from profiling.points.options import list_families
from profiling.statistics.launches import Launches
from profiling.statistics.ratios import PairedRatio, take_logs

PROJECT = Path(__file__).resolve().parent.parent
WARM_UP = 5
WITHIN = 0.01
# What two launches must share to be put together.
SETTINGS = ("tokens", "batch_size", "pairs", "threads")

WALL, CPU = "wall", "cpu"
CLOCKS = (WALL, CPU)

Launch = Mapping[str, Any]
Times = tuple[float, float]


def main() -> None:
    options = _parser().parse_args()
    if options.launch:
        print(json.dumps(launch(options.families[0], options)))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "launches.jsonl"
    for family, found in run_all(options, path):
        print(describe_launch(family, found), flush=True)
    table = write_table(read_launches(path, options), options)
    (options.output / "overhead.md").write_text(table, encoding="utf-8")
    print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", type=int, default=60, help="pairs of a timed and a bare pass in a launch")
    add("--tokens", type=int, default=50)
    add("--batch-size", type=int, default=1)
    add("--threads", type=int, default=1)
    add("--first", type=int, default=6, help="launches that decide how many there have to be")
    add("--maximum", type=int, default=20, help="launches of a family at most")
    add("--target", type=float, default=0.005, help="half of the interval, relative")
    add("--output", type=Path, default=Path("results_overhead"))
    add("--launch", action="store_true", help="be one launch, and print its times")
    families = list_families()
    add("families", nargs="*", default=families, metavar="family")
    return parser


# All launches


def run_all(options: argparse.Namespace, path: Path) -> Iterator[tuple[str, Launch]]:
    """One launch of each family after the other, until none wants another."""
    rules = {family: make_rule(options) for family in options.families}
    while True:
        done = read_launches(path, options)
        wanting = [f for f in rules if rules[f].wants_more(logs_of(done, f, WALL), 0.0)]
        if not wanting:
            return
        for family in wanting:
            found = start_launch(family, options)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(found) + "\n")
            yield family, found


def make_rule(options: argparse.Namespace) -> Launches:
    return Launches(
        relative_target=options.target,
        time_budget_s=float("inf"),
        first=options.first,
        maximum=options.maximum,
    )


def read_launches(path: Path, options: argparse.Namespace) -> list[Launch]:
    """The launches that were made with these settings; a torn last line is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [launch for line in lines if (launch := _parse(line)) is not None]
    wanted = {name: getattr(options, name) for name in SETTINGS}
    return [launch for launch in found if {n: launch[n] for n in SETTINGS} == wanted]


def _parse(line: str) -> Launch | None:
    try:
        found: Launch = json.loads(line)
    except ValueError:
        return None
    return found


def logs_of(launches: Sequence[Launch], family: str, clock: str) -> list[list[float]]:
    """One number a launch: the median log ratio of its pairs."""
    chosen = [one["times_s"][clock] for one in launches if one["family"] == family]
    return [[median(take_logs(times["timed"], times["bare"]))] for times in chosen]


def start_launch(family: str, options: argparse.Namespace) -> Launch:
    """A fresh process, which prints its times."""
    given = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in SETTINGS]
    command = [sys.executable, "-m", "benchmarks.overhead", "--launch", *given, family]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(options.threads),
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: Launch = json.loads(done.stdout.splitlines()[-1])
    return found


def describe_launch(family: str, found: Launch) -> str:
    wall, cpu = (exp(logs_of([found], family, clock)[0][0]) for clock in CLOCKS)
    bare_ms = median(found["times_s"][WALL]["bare"]) * 1e3
    return f"{family:12}{bare_ms:8.1f} ms bare, timed / bare {wall:.4f}, CPU time {cpu:.4f}"


# The table


def write_table(launches: Sequence[Launch], options: argparse.Namespace) -> str:
    settings = ", ".join(f"{name} {getattr(options, name)}" for name in SETTINGS)
    rows = [
        "# Overhead of the harness: a timed pass over a bare one",
        "",
        f"{describe_machine().cpu_model}; {settings}. An interval within [{1 - WITHIN:g},"
        f" {1 + WITHIN:g}] is the target.",
        "",
        "| family | bare | timed / bare | 95% interval | CPU time | 95% interval | launches |"
        " within 1% |",
        "|---|---:|---:|---|---:|---|---:|---|",
    ]
    for family in options.families:
        own = [one for one in launches if one["family"] == family]
        if own:
            bare_s = [seconds for one in own for seconds in one["times_s"][WALL]["bare"]]
            ratios = [make_rule(options).compare(logs_of(own, family, clock)) for clock in CLOCKS]
            rows.append(_row(family, median(bare_s), *ratios))
    return "\n".join(rows) + "\n"


def _row(family: str, bare_s: float, wall: PairedRatio, cpu: PairedRatio) -> str:
    verdict = "unknown"
    if wall.low is not None and wall.high is not None:
        verdict = "yes" if wall.low >= 1 - WITHIN and wall.high <= 1 + WITHIN else "no"
    cells = [family, f"{bare_s * 1e3:.1f} ms"]
    for ratio in (wall, cpu):
        bounds = f"{ratio.low:.4f} to {ratio.high:.4f}" if ratio.low and ratio.high else "too few"
        cells += [f"{ratio.value:.4f}", bounds]
    return f"| {' | '.join(cells)} | {wall.launches} | {verdict} |"


# One launch


def launch(family: str, options: argparse.Namespace) -> Launch:
    """Pairs of a timed and a bare pass in this process; the order within a pair alternates."""
    import torch

    from tests.tiny_models import load, make_workload

    engine = load(family)
    torch.set_num_threads(options.threads)
    size = options.batch_size
    workload = make_workload(engine, batch_size=size, max_new_tokens=options.tokens, count=size)
    bare = bare_pass(engine, workload)

    def time_bare() -> Times:
        # The hooks stay between timed passes, and must not be there in a bare one.
        engine.remove_hooks()
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        bare()
        return time.perf_counter() - begun_s, time.process_time() - begun_cpu_s

    def time_harness() -> Times:
        engine.place_hooks()
        begun_cpu_s = time.process_time()
        latency_s = workload.run_timed(0).latency_s
        return latency_s, time.process_time() - begun_cpu_s

    for _ in range(WARM_UP):
        time_bare(), time_harness()
    # As the latency probe does before its repeats.
    gc.collect()
    gc.freeze()
    timed, bare_ones = alternate(time_harness, time_bare, options.pairs)
    settings = {name: getattr(options, name) for name in SETTINGS}
    times_s = {
        clock: {"timed": [t[i] for t in timed], "bare": [t[i] for t in bare_ones]}
        for i, clock in enumerate(CLOCKS)
    }
    return {"family": family, **settings, "times_s": times_s}


def alternate(
    first: Callable[[], Times], second: Callable[[], Times], pairs: int
) -> tuple[list[Times], list[Times]]:
    """A B B A A B B A …"""
    of_first, of_second = [], []
    for pair in range(pairs):
        if pair % 2:
            of_second.append(second())
            of_first.append(first())
        else:
            of_first.append(first())
            of_second.append(second())
    return of_first, of_second


def bare_pass(engine: Any, workload: Any) -> Callable[[], None]:
    """Processor, `.to`, `generate`, without any code of the project in between."""
    import torch

    model, tokens = engine.model, workload.max_new_tokens
    network, encode = model.network, model.family.processing.encode
    prepared = engine.prepare(workload.batches[0], workload.prompt_len)
    pictures, texts = [p.shown.pictures[0] for p in prepared], [p.prompt for p in prepared]
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
