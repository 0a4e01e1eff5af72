"""How long points take at least, and the memory they need, from counted cost and measured peaks.

A program of its own: points are read from the standard input, and a line of JSON is written for
each. It imports a framework, and the process that a person starts does not.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profiling.engines.engine import find_engine
from profiling.errors import Unsupported
from profiling.machine.peaks import find_rough_rates
from profiling.points.address import canonical_json
from profiling.points.point import Point
from profiling.samples.hub import HubError
from profiling.statistics.stopping import LEAST_SLOW

# Enough for an estimate, and for a machine that is busy at present.
_TARGET_S, _COPY_BYTES = 0.05, 2**26

Rates = tuple[float, float]


def estimate(point: Point) -> dict[str, Any]:
    """Seconds and bytes of a point; without them, the reason."""
    # A sweep is listed without fetching anything.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        engine = find_engine(point)
        engine.check(point)
        costs = engine.count(point)
        rates = find_rough_rates(
            point.device,
            costs.dtype,
            threads=point.threads,
            target_s=_TARGET_S,
            copy_bytes=_COPY_BYTES,
        )
    except HubError:
        return {"reason": "not counted: its config.json is not on this machine"}
    except Exception as error:  # whatever keeps a point from being counted is told beside it
        reason = " ".join(str(error).split())[:200]
        return {"reason": reason if isinstance(error, Unsupported) else f"not counted: {reason}"}
    return {
        "at_least_s": _least_s(point, costs.phases, rates),
        "needed_bytes": costs.weight_bytes + costs.full_cache_bytes,
        # As they are fetched: an optimization quantizes them only then.
        "weight_bytes": costs.dense_bytes,
    }


def _least_s(point: Point, costs: Any, rates: Rates) -> float:
    """Answers and their references, and the passes that the probes time.

    An answer may end with its first token, so that nothing of decoding is certain.
    """
    spent = {phase: _phase_s(costs, phase, rates) for phase in costs.moved_bytes}
    pass_s = sum(spent.values())
    batches = math.ceil((point.num_samples or 1) / point.batch_size)
    answers = 0 if point.weights == "random" else 2 * batches
    return answers * (pass_s - spent.get("decode", 0.0)) + _timed_s(point, pass_s)


def _phase_s(costs: Any, phase: str, rates: Rates) -> float:
    """No phase is faster than it can compute and move."""
    flops_per_s, bytes_per_s = rates
    flops, moved = costs.flops(phase), costs.moved_bytes[phase]
    return max((flops or 0) / flops_per_s, (moved or 0) / bytes_per_s)


def _timed_s(point: Point, pass_s: float) -> float:
    """Warming up, repeats, and passes for memory, each cut off where it spends the time budget."""
    found, probes = 0.0, point.profiler["probes"]
    if "latency" in probes:
        found += _latency_s(probes["latency"], pass_s)
    if "memory" in probes:
        memory = probes["memory"]
        passes = min(memory["passes"], max(1, (point.num_samples or 1) // point.batch_size))
        found += _cut_off_s(passes, pass_s, memory["time_budget_s"])
    return found


def _latency_s(rule: Mapping[str, Any], pass_s: float) -> float:
    budget_s = rule["time_budget_s"]
    settled = min(2 * rule["warmup_window"] - 1, rule["warmup_cap"])
    warmup_s = _cut_off_s(settled, pass_s, budget_s)
    if rule["repeats"]:
        return warmup_s + float(rule["repeats"] * pass_s)
    # Passes that outlast the budget are repeated less often than the minimum.
    slow_s = LEAST_SLOW * max(pass_s, budget_s)
    return warmup_s + float(min(rule["minimum"] * pass_s, slow_s))


def _cut_off_s(passes: int, pass_s: float, budget_s: float) -> float:
    return max(pass_s, min(passes * pass_s, budget_s))


def _estimate_all(points: Sequence[Point]) -> Iterator[str]:
    known: dict[tuple[object, ...], dict[str, Any]] = {}
    for point in points:
        sizes = (point.img_size, point.prompt_len, point.batch_size, point.max_new_tokens)
        shown = (point.num_pictures, point.num_frames, point.seed)
        profiler = canonical_json(point.profiler)
        key = (point.load_key, *sizes, *shown, point.dataset_folder, point.num_samples, profiler)
        if key not in known:
            known[key] = estimate(point)
        yield json.dumps(known[key])


def main() -> None:
    for line in _estimate_all(pickle.load(sys.stdin.buffer)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
