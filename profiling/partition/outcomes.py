"""The final table: the cost of each mode, and whether its answer equals the original's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiling.partition.watching import Memory

_MEGA = 1e6
_HEADINGS = (
    "mode",
    "load s",
    "preprocess s",
    "vision s",
    "language s",
    "total s",
    "tokens/s",
    "CPU delta MB",
    "CPU peak MB",
    "GPU delta MB",
    "GPU peak MB",
    "on disk MB",
    "equal",
)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Times and answer of one question in one mode."""

    preprocess_s: float | None  # None where it cannot be separated from the vision part
    vision_s: float
    language_s: float
    tokens: list[int] | None  # None where only the text is known
    text: str

    @property
    def total_s(self) -> float:
        return (self.preprocess_s or 0) + self.vision_s + self.language_s

    @property
    def tokens_per_s(self) -> float | None:
        return None if self.tokens is None else len(self.tokens) / self.total_s


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The cost of a mode and its answer."""

    mode: str
    load_s: float | None  # None where it cannot be separated from the other times
    timed: Timed
    memory: Memory
    disk_bytes: int


def compare(outcome: Outcome, original: Timed) -> str:
    """The verdict in the table's last column."""
    tokens, wanted = outcome.timed.tokens, original.tokens
    if tokens is None or wanted is None:
        return "equal" if outcome.timed.text == original.text else "differs"
    if tokens == wanted:
        return "equal"
    pairs = zip(tokens, wanted, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(wanted)))
    return f"differs after {same} of {len(wanted)} tokens"


def draw_table(outcomes: Sequence[Outcome], original: Timed) -> Iterator[str]:
    """Lines of text, one row per mode."""
    rows = [_HEADINGS, *(_row(outcome, original) for outcome in outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _row(outcome: Outcome, original: Timed) -> tuple[str, ...]:
    timed, memory = outcome.timed, outcome.memory
    seconds = (
        outcome.load_s,
        timed.preprocess_s,
        timed.vision_s,
        timed.language_s,
        timed.total_s,
    )
    sizes = (
        memory.cpu_delta_bytes,
        memory.cpu_peak_bytes,
        memory.gpu_delta_bytes,
        memory.gpu_peak_bytes,
        outcome.disk_bytes,
    )
    return (
        outcome.mode,
        *("-" if value is None else f"{value:.4f}" for value in seconds),
        "-" if timed.tokens_per_s is None else f"{timed.tokens_per_s:.1f}",
        *("-" if value is None else f"{value / _MEGA:.1f}" for value in sizes),
        compare(outcome, original),
    )
