"""Write runs as markdown tables: one unit a column, intervals and marks beside the values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling.report.read.runs import Run
from profiling.report.say import escape
from profiling.report.say.marks import ESTIMATED, mark_noise, mark_weights
from profiling.report.say.units import (
    NOTHING,
    digits,
    percent,
    scale_of,
    times,
    unit_of,
)

SHARES = frozenset(
    {"agreement", "accuracy", "mfu_prefill", "mbu_decode", "option_parse_failure_rate"}
)
ALWAYS_ESTIMATED = frozenset({"energy_estimate_j"})
_NAMES = {
    "img_size": "image (px)",
    "prompt_len": "prompt_len",
    "batch_size": "batch",
    "max_new_tokens": "new tokens",
    "num_question_tokens": "question tokens",
    "num_visual_tokens": "visual tokens",
    "num_prompt_tokens": "prefilled tokens",
    "num_new_tokens": "tokens until stop",
    "samples_per_s": "samples/s",
    "tokens_per_s": "tokens/s",
    "energy_j": "energy per sample",
    "energy_estimate_j": "energy per sample, estimate",
    "peak_memory_bytes": "peak memory",
    "model_bytes": "model",
    "load_s": "loading",
    "ttft_s": "first token",
    "tpot_s": "per token",
    "wer": "WER",
    "wer_mean_clipped": "WER, clipped mean",
    "wer_best_reference": "WER, best reference",
    "option_parse_failure_rate": "no option in the answer",
    "cer": "CER",
    "mfu_prefill": "of peak FLOP/s, prefill",
    "mbu_decode": "of peak bytes/s, decode",
    "flops": "FLOPs, all",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its head and a cell for each row."""

    head: str
    cells: list[str]
    is_text: bool


def table(columns: Sequence[Column]) -> list[str]:
    """The lines of a table; a column in which no row has anything is left out."""
    kept = [column for column in columns if any(cell != NOTHING for cell in column.cells)]
    if not kept:
        return []
    lines = [
        _line(column.head for column in kept),
        _line(":--" if column.is_text else "--:" for column in kept),
    ]
    lines.extend(_line(cells) for cells in zip(*(column.cells for column in kept), strict=True))
    return lines


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def run_column(runs: Sequence[Run]) -> Column:
    """The short name of each run, with the mark of its weights."""
    cells = [f"`{run.short}`{mark_weights(run)}" for run in runs]
    return Column(head="run", cells=cells, is_text=True)


def text_column(runs: Sequence[Run], column: str) -> Column:
    cells = [NOTHING if run[column] is None else escape.markdown(run[column]) for run in runs]
    return Column(head=name_of(column), cells=cells, is_text=True)


def setting_columns(runs: Sequence[Run], columns: Sequence[str]) -> list[Column]:
    """The keys in which these runs differ."""
    varying = [key for key in columns if len({run[key] for run in runs}) > 1]
    return [setting_column(runs, key) for key in varying]


def setting_column(runs: Sequence[Run], key: str) -> Column:
    cells = [_setting(key, run) for run in runs]
    return Column(
        head=name_of(key), cells=cells, is_text=key in ("model", "dataset", "optimization")
    )


def _setting(key: str, run: Run) -> str:
    value = run[key]
    if value is None:
        return "as it is" if key == "prompt_len" else NOTHING
    mark = mark_weights(run) if key == "model" else ""
    return escape.markdown(str(value)) + mark


def number_columns(runs: Sequence[Run], columns: Sequence[str]) -> list[Column]:
    return [number_column(runs, column) for column in columns]


def number_column(runs: Sequence[Run], column: str) -> Column:
    """One column of the summary, all its cells in the unit that suits most of them."""
    bounds = bounds_of(column)
    return value_column(
        runs,
        column,
        values=[run.number(column) for run in runs],
        lows=[run.number(bounds[0]) for run in runs],
        highs=[run.number(bounds[1]) for run in runs],
    )


def bounds_of(column: str) -> tuple[str, str]:
    """The columns that hold a column's interval, where the contract has them."""
    stem, _, unit = column.rpartition("_")
    if unit_of(column) == "1":
        return f"{column}_ci_low", f"{column}_ci_high"
    return f"{stem}_ci_low_{unit}", f"{stem}_ci_high_{unit}"


def value_column(
    runs: Sequence[Run],
    column: str,
    *,
    values: Sequence[float | None],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
) -> Column:
    factor, unit = _shared_scale(column, values)
    cells = [
        NOTHING if value is None else _cell(column, run, value, low, high, factor)
        for run, value, low, high in zip(runs, values, lows, highs, strict=True)
    ]
    head = f"{name_of(column)} ({unit})" if unit else name_of(column)
    return Column(head=head, cells=cells, is_text=False)


def _shared_scale(column: str, values: Sequence[float | None]) -> tuple[float, str]:
    present = [abs(value) for value in values if value]
    unit = unit_of(column)
    if not present or unit in ("1", "1/s"):
        return 1.0, ""
    return scale_of(statistics.median_low(present), unit)


def _cell(
    column: str, run: Run, value: float, low: float | None, high: float | None, factor: float
) -> str:
    text = _number(column, value / factor)
    if low is not None and high is not None:
        text += f" [{_number(column, low / factor)}, {_number(column, high / factor)}]"
    return estimate_mark(run, column) + text + noise_mark(run, column)


def _number(column: str, value: float) -> str:
    if column in SHARES:
        return percent(value)
    if column == "speedup":
        return times(value)
    if unit_of(column) == "1" and value == int(value):
        return f"{value:.0f}"
    return digits(value)


def estimate_mark(run: Run, column: str) -> str:
    estimated = column in ALWAYS_ESTIMATED or run.is_estimated(column)
    return f"{ESTIMATED} " if estimated else ""


def noise_mark(run: Run, column: str) -> str:
    return mark_noise(run) if is_timed_column(column) else ""


def is_timed_column(column: str) -> bool:
    """Noise spoils times, and what is made from times."""
    return column.endswith(("_s", "_j")) or column in ("speedup", "mfu_prefill", "mbu_decode")


def name_of(column: str) -> str:
    if column in _NAMES:
        return _NAMES[column]
    return column.removesuffix("_s").replace("flops_", "FLOPs, ").replace("_", " ")
