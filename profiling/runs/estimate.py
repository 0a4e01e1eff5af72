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
from collections.abc import Iterator, Sequence
from typing import Any

from profiling.engines.engine import find_engine
from profiling.errors import Unsupported
from profiling.machine.peaks import find_rough_rates
from profiling.points.point import Point
from profiling.samples.hub import HubError

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
        "at_least_s": _passes(point) * _batch_s(costs.phases, rates),
        "needed_bytes": costs.weight_bytes + costs.full_cache_bytes,
        # As they are fetched: an optimization quantizes them only then.
        "weight_bytes": costs.dense_bytes,
    }


def _batch_s(costs: Any, rates: Rates) -> float:
    """No batch is faster than its phases can compute and move."""
    flops_per_s, bytes_per_s = rates
    return sum(
        max((costs.flops(phase) or 0) / flops_per_s, (moved or 0) / bytes_per_s)
        for phase, moved in costs.moved_bytes.items()
    )


def _passes(point: Point) -> int:
    """Batches that are run at least: answers, their references, and the least of each probe."""
    batches = math.ceil((point.num_samples or 1) / point.batch_size)
    latency, memory = (point.profiler["probes"].get(name, {}) for name in ("latency", "memory"))
    repeats = latency.get("repeats") or latency.get("minimum", 0)
    timed = repeats * batches + latency.get("warmup_window", 0)
    answers = 0 if point.weights == "random" else 2 * batches
    return int(answers + timed + min(memory.get("passes", 0), batches))


def _estimate_all(points: Sequence[Point]) -> Iterator[str]:
    known: dict[tuple[object, ...], dict[str, Any]] = {}
    for point in points:
        sizes = (point.img_size, point.prompt_len, point.batch_size, point.max_new_tokens)
        shown = (point.num_pictures, point.num_frames, point.seed)
        key = (point.load_key, *sizes, *shown, point.dataset_folder, point.num_samples)
        if key not in known:
            known[key] = estimate(point)
        yield json.dumps(known[key])


def main() -> None:
    for line in _estimate_all(pickle.load(sys.stdin.buffer)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
