"""The final table: the cost of each mode, and whether its answer equals the original's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from profiling.records import Reading

_MEGA = 1e6
# The columns that readings fill: heading, metric, and what a number is divided by.
_TIMES = (
    ("latency s", "latency_s"),
    ("low", "latency_ci_low_s"),
    ("high", "latency_ci_high_s"),
    ("preprocess s", "preprocess_s"),
    ("vision s", "vision_s"),
    ("prefill s", "prefill_s"),
    ("decode s", "decode_s"),
)
_RATES = (("tokens/s", "tokens_per_s"),)
_SIZES = (
    ("load peak MB", "load_peak_bytes"),
    ("CPU delta MB", "cpu_memory_delta_bytes"),
    ("CPU peak MB", "cpu_memory_peak_bytes"),
    ("GPU delta MB", "gpu_memory_delta_bytes"),
    ("GPU peak MB", "gpu_memory_peak_bytes"),
)
_HEADINGS = (
    "mode",
    "load s",
    *(heading for heading, _ in (*_TIMES, *_RATES, *_SIZES)),
    "on disk MB",
    "equal",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The cost of a mode and its answer."""

    mode: str
    load_s: float | None  # None where it cannot be told from the rest
    readings: Mapping[str, Reading] = field(default_factory=dict)
    tokens: list[int] | None  # None where only the text is known
    text: str
    disk_bytes: int = 0
    # The largest relative error of each part to the network, where parts were converted.
    errors: Mapping[str, float] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        reading = self.readings.get(metric)
        return None if reading is None else reading.value


def compare(outcome: Outcome, original: Outcome) -> str:
    """The verdict in the table's last column."""
    tokens, wanted = outcome.tokens, original.tokens
    if tokens is None or wanted is None:
        return "equal" if outcome.text == original.text else "differs"
    if tokens == wanted:
        return "equal"
    pairs = zip(tokens, wanted, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(wanted)))
    return f"differs after {same} of {len(wanted)} tokens"


def draw_table(outcomes: Sequence[Outcome], original: Outcome) -> Iterator[str]:
    """Lines of text, a row for each mode."""
    rows = [_HEADINGS, *(_row(outcome, original) for outcome in outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    for outcome in outcomes:
        yield from _list_errors(outcome)


def _list_errors(outcome: Outcome) -> Iterator[str]:
    if outcome.errors:
        told = (f"{name} {error:.1e}" for name, error in outcome.errors.items())
        yield f"{outcome.mode}: largest relative error to the network: {', '.join(told)}"


def _row(outcome: Outcome, original: Outcome) -> tuple[str, ...]:
    times = (outcome.load_s, *(outcome.value(metric) for _, metric in _TIMES))
    rates = (outcome.value(metric) for _, metric in _RATES)
    sizes = (*(outcome.value(metric) for _, metric in _SIZES), outcome.disk_bytes)
    return (
        outcome.mode,
        *("-" if value is None else f"{value:.4f}" for value in times),
        *("-" if value is None else f"{value:.1f}" for value in rates),
        *("-" if value is None else f"{value / _MEGA:.1f}" for value in sizes),
        compare(outcome, original),
    )
