"""How far the logits of a run are from those of the plain model."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ADDED,
    COUNT,
    HIGHER,
    LOWER,
    NEITHER,
    RECORD,
    RUN,
    SHARE,
    TEXT,
    VARIANTS,
    WHOLE,
    Entry,
    Group,
    Metric,
)

_off = partial(Metric, unit=COUNT, phase=RUN, better=LOWER, given_by=("divergence",))
_first = partial(_off, better=NEITHER)

DIVERGENCE = Group(
    title="Divergence",
    text="""With `divergence=true`, the plain model (`engine=torch` in float32, one sample at a
time) answers the first samples, and the engine has to choose the same tokens, whatever its own
logits say. So the logits of both belong to the same text at every token. What the plain model gave
is kept in `results_dir` and serves every later point of the same weights and samples. Nothing of it
is timed. [divergence.md](divergence.md) says how to read the verdict.""",
    literature="""Higham, *Accuracy and Stability of Numerical Algorithms* (2nd ed., 2002), ch. 2
and 3; Higham and Mary, SIAM J. Sci. Comput. 41 (2019), for the growth of rounding in sums; Parker,
"Monte Carlo arithmetic" (1997), for noise in the place of roundings.""",
    entries=(
        Entry(
            metrics=(
                _off(name="logit_error", title="logit error", column=ADDED),
                _off(name="relative_logit_error", title="relative logit error"),
            ),
            definition="the largest difference of a logit from the plain model's; the root of the"
            " mean square of the differences, over the standard deviation of the plain model's"
            " logits at that token",
            method="`readings.csv` has the value of each token (`batch` is the sample, `repeat` the"
            " token); the aggregate is the largest",
            uncertainty="exact for these tokens",
            limits="of vocabularies above 4096 tokens, 4096 evenly spread logits and the 32 highest"
            " are compared",
        ),
        Entry(
            metrics=(_off(name="rounding_scale", title="rounding scale", better=NEITHER),),
            definition="the relative logit error that one rounding of the coarsest precision at"
            " every module would give",
            method="the rounding times the growth of an error in the plain model, which is measured"
            " for each token with noise of 0.001 on the output of every module",
            uncertainty="an order of magnitude: it counts one rounding a module",
            limits="whole numbers round by half a step of the largest value; float32 by 2^-24 times"
            " the root of the longest sum",
        ),
        Entry(
            metrics=(
                _off(
                    name="divergence",
                    title="error over rounding",
                    column=ADDED,
                    source_column="divergence_verdict",
                    tables=frozenset({VARIANTS}),
                ),
            ),
            definition="the largest, over tokens, of relative logit error over rounding scale",
            method="as above",
            uncertainty="that of `rounding_scale`",
            limits="`unavailable` where an optimization computes something else on purpose",
        ),
        Entry(
            metrics=(
                Metric(
                    name="divergence_verdict",
                    unit=COUNT,
                    phase=RUN,
                    title="divergence",
                    better=NEITHER,
                    given_by=(RECORD,),
                    kind=TEXT,
                    column=ADDED,
                ),
            ),
            definition="`rounding`: no token differs and no error is above 10 roundings; `tie`:"
            " tokens differ, by errors that are not above either; `error`: an error is above",
            method="the source of `divergence`",
            uncertainty="none",
            limits="what is smaller than the rounding of a coarse precision is not seen in it: look"
            " for errors in float32",
        ),
        Entry(
            metrics=(
                _off(name="compared_tokens", title="tokens compared", better=HIGHER),
                _off(name="differing_tokens", title="differing tokens", shown_as=SHARE),
            ),
            definition="the tokens that were compared, and the share at which another token is the"
            " likeliest",
            method="counted",
            uncertainty="exact",
            limits="each token is judged behind the plain model's tokens, so one difference does"
            " not bring others with it",
        ),
        Entry(
            metrics=(
                _off(name="reference_margin", title="margin of the plain model", better=NEITHER),
            ),
            definition="the plain model's highest logit above its second",
            method="each token's in `readings.csv`; the aggregate is the smallest",
            uncertainty="exact",
            limits="none",
        ),
        Entry(
            metrics=(
                _first(name="first_difference", title="first differing token", kind=WHOLE),
                _first(name="first_difference_margin", title="margin at the first difference"),
                _first(name="first_difference_error", title="error at the first difference"),
            ),
            definition="of the samples in which a token differs, that whose first difference has"
            " the largest margin: the place of the token in the answer (from 0), the plain model's"
            " margin there, and the logit error",
            method="as above",
            uncertainty="exact",
            limits="`unavailable` where no token differs",
        ),
    ),
)
