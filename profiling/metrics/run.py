"""The settings of a run, its outcome, and how much was measured."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ADDED,
    COUNT,
    FIXED,
    NEITHER,
    RECORD,
    RUN,
    TEXT,
    WHOLE,
    Entry,
    Group,
    Metric,
)

_column = partial(
    Metric, unit=COUNT, phase=RUN, better=NEITHER, given_by=(RECORD,), column=FIXED, kind=TEXT
)
_setting = partial(_column, is_setting=True)
_count = partial(Metric, unit=COUNT, phase=RUN, better=NEITHER, column=FIXED, kind=WHOLE)

THE_RUN = Group(
    title="The run",
    text="",
    literature="only the run's own configuration; [records.md](records.md) explains the"
    " fingerprint.",
    entries=(
        Entry(
            metrics=(_column(name="fingerprint", title="fingerprint"),),
            definition="address of the run",
            method="digest of configuration, code, machine, package versions, samples and weights",
            uncertainty="none: equal addresses mean equal inputs",
            limits="of large checkpoint files only the size and both ends are read",
        ),
        Entry(
            metrics=(_column(name="status", title="status"),),
            definition="how the run ended",
            method="`completed`, `failed`, `unsupported` or `out_of_memory`, from the outcome of"
            " the worker process",
            uncertainty="`out_of_memory` only with evidence: the library's error or the kernel's"
            " count of kills",
            limits="a kill from outside is recorded as `failed`",
        ),
        Entry(
            metrics=(
                _setting(name="model", title="model"),
                _setting(name="weights", title="weights"),
                _setting(name="dataset", title="dataset", phrase="{}"),
                _setting(name="optimization", title="optimization", phrase="{}"),
            ),
            definition="what was run; stacked optimizations are joined by `+`",
            method="resolved configuration",
            uncertainty="none",
            limits="`weights=tiny` is a miniature of the family, not the public model",
        ),
        Entry(
            metrics=(
                _count(
                    name="img_size",
                    unit="px",
                    title="image size",
                    phrase="{} px",
                    given_by=(RECORD,),
                    is_setting=True,
                ),
            ),
            definition="requested side of the picture",
            method="resolved configuration, rounded to a size that the family accepts",
            uncertainty="exact; `answers.jsonl` has the sizes that the model saw",
            limits="families that keep the aspect ratio see the same area, not the same sides",
        ),
        Entry(
            metrics=(
                _count(
                    name="prompt_len",
                    title="prompt length",
                    phrase="{} question tokens",
                    given_by=(RECORD,),
                    is_setting=True,
                ),
            ),
            definition="requested length of the question in tokens; empty: as it is",
            method="resolved configuration",
            uncertainty="exact in the family's own tokens",
            limits="the same number of tokens is another number of words in another family",
        ),
        Entry(
            metrics=(
                _count(
                    name="batch_size",
                    title="batch size",
                    phrase="batch size {}",
                    given_by=(RECORD,),
                    is_setting=True,
                ),
                _count(
                    name="max_new_tokens",
                    title="new tokens",
                    phrase="{} new tokens",
                    given_by=(RECORD,),
                    is_setting=True,
                ),
            ),
            definition="samples per batch; new tokens per sample while costs are measured",
            method="resolved configuration",
            uncertainty="exact",
            limits="with too few samples for a full batch, samples are repeated",
        ),
        Entry(
            metrics=(_setting(name="device", title="device"),),
            definition="the device of the run",
            method="resolved from `auto`, `cpu`, `cuda`, `cuda:N` or `mps`",
            uncertainty="none",
            limits="the number in `cuda:N` is counted after CUDA_VISIBLE_DEVICES",
        ),
        Entry(
            metrics=(_column(name="dtype", title="dtype"),),
            definition="dtype of the network",
            method="dtype of the input embedding after loading",
            uncertainty="none",
            limits="the library keeps some layers in single precision; quantized weights are"
            " stored in fewer bits",
        ),
        Entry(
            metrics=(
                _count(name="num_samples", title="samples", given_by=(RECORD,), is_setting=True),
            ),
            definition="number of samples that were answered",
            method="counted",
            uncertainty="exact",
            limits="costs are measured on full batches of the same samples",
        ),
        Entry(
            metrics=(_count(name="num_repeats", title="repeats", given_by=("latency",)),),
            definition="number of timed batches",
            method="counted; the source says which rule ended them: `fixed`, `interval`,"
            " `time_budget`, `maximum` or a pass that outlasts the time budget, and whether the"
            " latency drifts or steps while they are measured",
            uncertainty="exact",
            limits="correlated repeats carry less information; the interval accounts for it",
        ),
        Entry(
            metrics=(
                _count(name="num_warmup", title="warm-up", given_by=("latency",), column=None),
            ),
            definition="number of batches before the timed ones",
            method="until the last medians settle, or the cap or the time budget is reached; the"
            " source says which",
            uncertainty="exact",
            limits="a slow warm-up can look settled: the source of `num_repeats` reports a drift",
        ),
        Entry(
            metrics=(_setting(name="engine", title="engine", column=ADDED),),
            definition="what ran the model",
            method="resolved configuration",
            uncertainty="none",
            limits="versions of the engine's packages are in `run.json`",
        ),
        Entry(
            metrics=(_column(name="computes_in", title="computes in", column=ADDED),),
            definition="precision of the arithmetic",
            method="reported by the optimization and the engine",
            uncertainty="none",
            limits="may differ from `dtype`: kernels for quantized layers convert before they"
            " multiply",
        ),
    ),
)
