"""The page that compares every engine with torch: time by phase, memory, making, and answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from profiling import metrics
from profiling.metrics import TOTAL
from profiling.report.read.keys import ROUND, list_differing, show_value
from profiling.report.read.plain_runs import PLAIN_ENGINE, identify_setting, started
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import (
    describe_setting,
    is_timed,
    list_unfinished,
    plain_first,
)
from profiling.report.say import escape
from profiling.report.say.engines import Standing, say_engine
from profiling.report.say.marks import mark_weights
from profiling.report.say.two_runs import error_difference, likelihood_difference
from profiling.report.say.units import NOTHING, percent, say_ratio
from profiling.report.write.columns import Column, number_columns, quantity_column
from profiling.report.write.markdown import fold, run_column, table, text_column
from profiling.report.write.sections import error_column, section, show_marks
from profiling.report.write.variants import SHOWN_PHASES, Variant, say_change

STEM = "engines"
_ENGINE = "engine"
# Settings that follow from the engine's name.
_IMPLIED = frozenset({"engine.room", "engine.runtime"})
_TIMES = (
    *("latency_s", "vision_s", "projector_s", "prefill_s", "decode_s", "ttft_s"),
    "tokens_per_s",
)
_SIZES = ("model_bytes", "cpu_memory_peak_bytes", "gpu_memory_peak_bytes", "artifact_bytes")
_MAKING = ("make_s", "load_s", "compile_s")
_FIRST = (*_MAKING, "ttft_s")
_LOGITS = (
    *("logit_error", "relative_logit_error", "rounding_scale", "divergence"),
    *("differing_tokens", "first_difference", "first_difference_margin"),
    "first_difference_error",
)
_CHANGES = {"wer": error_difference, "reference_nll": likelihood_difference}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Runs that differ in the engine alone, torch first."""

    plain: Run
    runs: tuple[Run, ...]

    @property
    def variants(self) -> list[Variant]:
        return [Variant(run=run, plain=self.plain) for run in self.runs]


def write_engines(runs: Sequence[Run], command: str) -> list[str]:
    """The page; nothing where no other engine ran beside torch."""
    settings = find_settings(runs)
    if not settings:
        return []
    shown = [run for setting in settings for run in setting.runs]
    return [
        "# Engines against torch",
        "",
        *_say_engines(settings),
        "",
        "- Faster and slower are torch's time over the engine's, where a paired comparison's 95%"
        " interval excludes 1; the range is that of the intervals' ends over all settings. Each"
        " interval is for itself: of twenty that hold, about one misses.",
        "- The last item is the verdict on the logits, with the number of settings: `rounding` and"
        " `tie` are what the engine's precision explains, `error` is more.",
        "- `docs/engines.md` says what each engine needs and how it computes, `docs/divergence.md`"
        " how logits are compared.",
        "",
        *(line for setting in settings for line in _show(setting)),
        *_show_unfinished(runs, settings),
        *show_marks(shown, command),
    ]


def find_settings(runs: Sequence[Run]) -> list[Setting]:
    """Every setting that torch and another engine were measured at; the newest run counts."""
    groups: dict[str, dict[str, Run]] = defaultdict(dict)
    for run in sorted(filter(is_timed, runs), key=lambda run: started(run.record)):
        groups[identify_setting(run.record, _ENGINE, ROUND)][_identify(run)] = run
    found = []
    for group in groups.values():
        plain = next((run for run in group.values() if is_plain(run)), None)
        if plain is not None and len(group) > 1:
            others = sorted((run for run in group.values() if run is not plain), key=_order)
            found.append(Setting(plain=plain, runs=(plain, *others)))
    return sorted(found, key=lambda one: (str(one.plain["model"]), *plain_first(one.plain)))


def _identify(run: Run) -> str:
    return json.dumps(run.record.config.get(_ENGINE, PLAIN_ENGINE), sort_keys=True)


def engine_of(run: Run) -> str:
    found: Any = run[_ENGINE] or run.settings.get(_ENGINE)
    return str(found or PLAIN_ENGINE)


def is_plain(run: Run) -> bool:
    return engine_of(run) == PLAIN_ENGINE


def _order(run: Run) -> tuple[str, int, str]:
    """By engine, and without further settings first."""
    given = [key for key, value in run.settings.items() if value is not None]
    return engine_of(run), sum(key.startswith(f"{_ENGINE}.") for key in given), _identify(run)


def label_of(run: Run, runs: Sequence[Run]) -> str:
    """The engine with those of its settings in which these runs differ."""
    own = [key for key in _differing(runs) if run.settings.get(key) is not None]
    said = [f"{key.partition('.')[2]}={show_value(run.settings[key])}" for key in own]
    return ", ".join([engine_of(run), *said])


def _differing(runs: Sequence[Run]) -> Iterator[str]:
    for key in list_differing([run.settings for run in runs]):
        if key.startswith(f"{_ENGINE}.") and key not in _IMPLIED:
            yield key


# What they are good for


def _say_engines(settings: Sequence[Setting]) -> Iterator[str]:
    runs = [run for setting in settings for run in setting.runs]
    standings: dict[str, list[Standing]] = defaultdict(list)
    for setting in settings:
        for variant in setting.variants[1:]:
            standings[label_of(variant.run, runs)].append(_standing(variant))
    for label, found in sorted(standings.items()):
        yield f"- **{escape.markdown(label)}**: {say_engine(found, SHOWN_PHASES)}."


def _standing(variant: Variant) -> Standing:
    paired, verdict = variant.paired, variant.run["divergence_verdict"]
    speeds = {} if paired is None or paired.noisy else dict(paired.times)
    return Standing(speeds=speeds, verdict=None if verdict is None else escape.markdown(verdict))


# The tables of a setting


def _show(setting: Setting) -> list[str]:
    plain, runs = setting.plain, setting.runs
    fixed = escape.markdown(describe_setting(plain, without=[_ENGINE]))
    names = [run_column(runs), _labels(runs)]
    lines = [
        f"All at {fixed}, on {escape.markdown(plain['device'])}.",
        "",
        *table([*names, *_speedups(setting.variants)]),
        "",
        *table([*names, *number_columns(runs, _TIMES)]),
        "",
        *table([*names, *number_columns(runs, _SIZES), *_making(runs)]),
        "",
        *_show_answers(setting, names),
        *fold("What each engine computes in", table([*names, *_facts(runs)])),
    ]
    title = f"{escape.markdown(plain['model'])}{mark_weights(plain)}, {fixed}"
    return section(title, lines)


def _labels(runs: Sequence[Run]) -> Column:
    cells = [escape.markdown(label_of(run, runs)) for run in runs]
    return Column(head=_ENGINE, cells=cells, is_text=True)


def _speedups(variants: Sequence[Variant]) -> list[Column]:
    title = metrics.find("speedup").title
    shown = [
        Column(
            head=f"{title}, {'all' if phase == TOTAL else phase}",
            cells=[_speedup(variant, phase) for variant in variants],
            is_text=False,
        )
        for phase in SHOWN_PHASES
    ]
    sources = [NOTHING if one.is_plain else one.source() for one in variants]
    return [*shown, Column(head="measured", cells=sources, is_text=True)]


def _speedup(variant: Variant, phase: str) -> str:
    speed = None if variant.is_plain else variant.speed(phase)
    return NOTHING if speed is None else say_ratio(speed) + variant.mark()


def _making(runs: Sequence[Run]) -> list[Column]:
    """What there is to do before the first token of the first answer."""
    firsts = [_first_answer_s(run) for run in runs]
    whole = quantity_column("time to the first answer", firsts, metrics.find("load_s").unit)
    return [*number_columns(runs, _MAKING), whole]


def _first_answer_s(run: Run) -> float | None:
    """Conversion, loading and compilation, and then a first token; None where one is unknown."""
    if run.number("load_s") is None or run.number("ttft_s") is None:
        return None
    return sum(run.number(name) or 0.0 for name in _FIRST)


def _show_answers(setting: Setting, names: Sequence[Column]) -> list[str]:
    runs, variants = setting.runs, setting.variants
    columns = [_shares(runs, "agreement"), *number_columns(runs, ("wer", "reference_nll"))]
    for name, compare in _CHANGES.items():
        found = [None if one.is_plain else compare(one.plain, one.run) for one in variants]
        cells = [NOTHING if one is None else say_change(one) for one in found]
        head = f"{metrics.find(name).words}, change per sample"
        columns.append(Column(head=head, cells=cells, is_text=False))
    logits = [text_column(runs, "divergence_verdict"), *number_columns(runs, _LOGITS)]
    return [*_beside(names, columns), *_beside(names, logits)]


def _beside(names: Sequence[Column], columns: Sequence[Column]) -> list[str]:
    """A table beside the names of runs; nothing where no run has a value."""
    if all(cell == NOTHING for column in columns for cell in column.cells):
        return []
    return [*table([*names, *columns]), ""]


def _shares(runs: Sequence[Run], name: str) -> Column:
    cells = [NOTHING if run.number(name) is None else percent(run.number(name)) for run in runs]
    return Column(head=metrics.find(name).title, cells=cells, is_text=False)


def _facts(runs: Sequence[Run]) -> list[Column]:
    """What an engine says of itself: its arithmetic, and what it compiled."""
    named = [text_column(runs, name) for name in ("dtype", "computes_in")]
    counted = number_columns(runs, ("num_compilations", "num_recompilations"))
    return [*named, *counted]


def _show_unfinished(runs: Sequence[Run], settings: Sequence[Setting]) -> list[str]:
    models = {setting.plain["model"] for setting in settings}
    left = [run for run in list_unfinished(runs) if not is_plain(run) and run["model"] in models]
    if not left:
        return []
    columns = [run_column(left), text_column(left, "model"), _labels(left)]
    return section(
        "Not completed", table([*columns, text_column(left, "status"), error_column(left)])
    )
