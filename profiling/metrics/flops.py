"""Operations of the first full batch, whole and by phase, and by independent counts."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COMPARED,
    COMPUTE,
    COUNTED_PHASES,
    FIXED,
    LOWER,
    TOTAL,
    Entry,
    Group,
    Metric,
)

_flops = partial(Metric, unit="FLOP", better=LOWER, given_by=("flops",), is_exact=True)


def _phase(name: str) -> Metric:
    return _flops(
        name=f"flops_{name}",
        phase=name,
        title=f"FLOPs, {name}",
        column=FIXED,
        tables=frozenset({COMPUTE}),
    )


FLOPS = Group(
    title="FLOPs",
    text="""Counted, not measured: operators of a dense copy of the network without values, at the
shapes of the first full batch at the timed length. A multiply-add counts as two. The count is
compared with arithmetic from the configuration (0.1%) and, in `profiler=full`, with fvcore's
multiply-adds times two (2%). A disagreement, or an operator without a formula, makes the number
`unavailable`. GPU and CPU give the same number.""",
    literature="""PyTorch's dispatch of operators; Kaplan et al., "Scaling laws for neural language
models", arXiv:2001.08361, 2.1, and Hoffmann et al., arXiv:2203.15556, appendix F, for the
arithmetic of transformers; fvcore, docs/flop_count.md, for the second count.""",
    entries=(
        Entry(
            metrics=(
                _flops(
                    name="flops",
                    phase=TOTAL,
                    title="FLOPs, all",
                    in_sentences="compute",
                    column=FIXED,
                    tables=frozenset({COMPUTE, COMPARED}),
                ),
            ),
            definition="operations of the whole batch: the sum of the four phases",
            method="operators counted, checked by both other counts",
            uncertainty="at most 0.1% from the arithmetic",
            limits="excludes elementwise operations, norms, softmax and rotations; includes"
            " padding; attention is not discounted for causality",
        ),
        Entry(
            metrics=tuple(map(_phase, COUNTED_PHASES)),
            definition="operations of one phase of a batch",
            method="operators of the part's forward; decode: first and last step, the cost growing"
            " linearly in between",
            uncertainty="as above",
            limits="the output head counts at the last position only; quantized and exported"
            " networks count as their dense equivalent",
        ),
        Entry(
            metrics=(
                _flops(
                    name="flops_step",
                    phase="decode",
                    title="FLOPs, one step",
                    when="more than one token is generated",
                ),
            ),
            definition="operations of one decoding step; `repeat` is its number",
            method="operators counted",
            uncertainty="as above",
            limits="the first and the last step only",
        ),
        Entry(
            metrics=(
                _flops(
                    name="flops_{phase}_analytic",
                    phase="{phase}",
                    title="FLOPs, {phase}, by arithmetic",
                    when="the family has the phase",
                ),
            ),
            definition="the same by arithmetic from the configuration",
            method="the family's formulas",
            uncertainty="exact for what is counted",
            limits="written for the library's architecture, not for a modified one",
        ),
        Entry(
            metrics=(
                _flops(
                    name="flops_{phase}_fvcore",
                    phase="{phase}",
                    title="FLOPs, {phase}, by fvcore",
                    when="the profiler asks for the cross-check and the family has the phase",
                ),
            ),
            definition="the same by fvcore with eager attention",
            method="traced graph, norms excluded, times two",
            uncertainty="within 2% of the counted operators",
            limits="`unavailable` where a part cannot be traced",
        ),
    ),
)
