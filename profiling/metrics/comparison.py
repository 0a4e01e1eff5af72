"""A run compared with its baseline, computed when a report is read."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ADDED,
    ANSWERS,
    COUNT,
    EFFECTS,
    FIXED,
    HIGHER,
    NEITHER,
    OVERVIEW,
    RATIO,
    REPORT,
    RUN,
    SHARE,
    TEXT,
    VARIANTS,
    Entry,
    Group,
    Metric,
)

_compared = partial(Metric, unit=COUNT, phase=RUN, given_by=(REPORT,))
_ratio = partial(_compared, better=HIGHER, shown_as=RATIO, from_times=True)

COMPARISON = Group(
    title="Against the baseline",
    text="",
    literature="Hoefler and Belli (above) on speed-ups as ratios of medians with a stated base.",
    entries=(
        Entry(
            metrics=(
                _compared(
                    name="agreement",
                    title="agreement",
                    better=HIGHER,
                    column=FIXED,
                    shown_as=SHARE,
                    tables=frozenset({OVERVIEW, EFFECTS, ANSWERS, VARIANTS}),
                ),
            ),
            definition="share of samples with the same answer as the baseline's",
            method="texts compared at reading, with the newest run that is equal in all but"
            " `optimization=baseline engine=torch`",
            uncertainty="that of a share of so many samples",
            limits="equal texts, not equal meaning; empty without such a run",
        ),
        Entry(
            metrics=(
                _ratio(
                    name="speedup",
                    title="speed-up",
                    column=FIXED,
                    bounds=("speedup_ci_low", "speedup_ci_high"),
                    tables=frozenset({OVERVIEW, EFFECTS}),
                ),
            ),
            definition="the baseline's `latency_s` over this one",
            method="the same pair of runs",
            uncertainty="that of both latencies",
            limits="runs hours apart include the machine's drift; a sweep over `round=1,2,3`"
            " measures every point again after all the others",
        ),
        Entry(
            metrics=(
                _ratio(name="speedup_ci_low", title="speed-up, low end", column=ADDED),
                _ratio(name="speedup_ci_high", title="speed-up, high end", column=ADDED),
            ),
            definition="95% interval of `speedup`",
            method="a paired comparison",
            uncertainty="covers variation within and between processes",
            limits="empty where the runs were not paired",
        ),
        Entry(
            metrics=(
                _compared(
                    name="speedup_source",
                    title="source of the speed-up",
                    better=NEITHER,
                    column=ADDED,
                    kind=TEXT,
                ),
            ),
            definition="`paired`, or `separate runs`",
            method="by what `speedup` was computed from",
            uncertainty="none",
            limits="empty without a `speedup`",
        ),
    ),
)
