"""Generations of an embedded model: exact lengths, and the overhead of hooks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from profiling.engines.workload import Workload
from profiling.selfcheck.finding import CANNOT, OFF, OK, Finding, compare
from profiling.selfcheck.tiny import tiny_workload
from profiling.statistics.ratios import Ratio, compare_pairs

LENGTHS = (1, 2, 7)
BATCH_SIZE = 2
# Machines are shared: only an interval that lies above this ratio is a fault.
LARGEST_OVERHEAD = 1.05
TOO_WIDE = "the interval cannot exclude an overhead of 5%: repeat it on a quiet machine"


def check_lengths(device: str) -> Iterator[Finding]:
    """The requested number of new tokens, in the answer and in the timing."""
    for length in LENGTHS:
        workload = tiny_workload(device=device, batch_size=BATCH_SIZE, max_new_tokens=length)
        engine = workload.engine
        inputs = engine.place(workload.encode(0))
        tokens = engine.generate(inputs, length=length, exact=True, trace=None)
        timing = workload.run_timed(0)
        name = f"generation of {length}"
        yield _tokens(f"{name}: tokens of each row", length, tokens.shape[1])
        yield _tokens(f"{name}: tokens timed", length, timing.num_tokens)


def _tokens(check: str, expected: int, found: float) -> Finding:
    return compare(check, expected=expected, found=found, unit="tokens", tolerance=0)


def check_overhead(device: str, *, pairs: int, max_new_tokens: int) -> Iterator[Finding]:
    """The same batch with and without hooks, alternating, so that drift affects both equally."""
    workload = tiny_workload(device=device, batch_size=1, max_new_tokens=max_new_tokens)
    _time_bare(workload)
    bare_s, watched_s = [], []
    for _ in range(pairs):
        bare_s.append(_time_bare(workload))
        watched_s.append(workload.run_timed(0).latency_s)
    yield judge_overhead(watched_s, bare_s)


def _time_bare(workload: Workload) -> float:
    begun_s = time.perf_counter()
    workload.run(0)
    workload.engine.synchronize()
    return time.perf_counter() - begun_s


def judge_overhead(watched_s: Sequence[float], bare_s: Sequence[float]) -> Finding:
    ratio = compare_pairs(watched_s, bare_s)
    return Finding(
        check="harness: pass with hooks over bare pass",
        expected="1",
        found=_show(ratio),
        deviation=f"{abs(ratio.value - 1):.2%}",
        verdict=_judge(ratio),
        why=TOO_WIDE if _judge(ratio) == CANNOT else "",
    )


def _show(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f}"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def _judge(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return CANNOT
    if ratio.low > LARGEST_OVERHEAD:
        return OFF
    return OK if ratio.high <= LARGEST_OVERHEAD else CANNOT
