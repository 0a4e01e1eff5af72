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
    title="Computed when a report is read",
    text="""A run is compared with its baseline: the newest run that is equal in all but
`optimization=baseline engine=torch`.

Two runs at two times differ by the state of the machine as well, and their own intervals do not
cover that. A speed-up has an interval only where both points were measured in pairs: passes of both
sides alternate, in several pairs of fresh processes, and the interval comes from the spread between
these launches. `python -m profiling.versus` measures such a comparison, and a sweep with
`paired=true` one for each of its points.""",
    literature="Hoefler and Belli (above) on speed-ups with a stated base; Kalibera and Jones"
    ' (above) on repetition of whole processes; Bulej et al., "Duet benchmarking", ICPE 2020, on'
    " measuring both sides in turn.",
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
            method="texts compared with those of the baseline",
            uncertainty="that of a share of so many samples",
            limits="equal texts, not equal meaning; empty without a baseline",
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
            definition="the baseline's latency over this one",
            method="`paired`: from their paired comparison; `separate runs`: one `latency_s` over"
            " the other",
            uncertainty="`speedup_ci_low` to `speedup_ci_high`",
            limits="from separate runs it includes the machine's drift, by an unknown amount",
        ),
        Entry(
            metrics=(
                _ratio(name="speedup_ci_low", title="speed-up, low end", column=ADDED),
                _ratio(name="speedup_ci_high", title="speed-up, high end", column=ADDED),
            ),
            definition="95% interval of `speedup`",
            method="Student's t over the launches of the paired comparison",
            uncertainty="covers variation within and between processes",
            limits="empty where the runs were not paired, or their launches gave no interval",
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
        Entry(
            metrics=(
                _compared(
                    name="latency_ci_confidence",
                    title="confidence of the latency's interval",
                    better=NEITHER,
                    column=ADDED,
                    shown_as=SHARE,
                ),
            ),
            definition="the confidence that `latency_ci_low_s` to `latency_ci_high_s` reaches",
            method="read from the source of these ends",
            uncertainty="that of the effective number of repeats",
            limits="below 0.95 where few repeats are independent; empty without an interval",
        ),
    ),
)
