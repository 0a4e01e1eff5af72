"""What it takes to make a variant of the plain model, and what the variant did."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ADDED,
    COUNT,
    HIGHER,
    LOWER,
    NEITHER,
    RUN,
    SHARE,
    VARIANTS,
    Entry,
    Group,
    Metric,
)

_made = partial(Metric, phase=RUN, better=LOWER, given_by=("variant",))
_cached = partial(Metric, phase=RUN, given_by=("picture_cache",), when="the variant keeps pictures")
_drafted = partial(
    Metric,
    unit=COUNT,
    phase="decode",
    given_by=("variant",),
    when="the variant drafts tokens",
)
_COMPILED = "the variant is compiled"

VARIANT = Group(
    title="Making a variant",
    text="",
    literature="clocks and counts only; [optimizations.md](optimizations.md) says what is made.",
    entries=(
        Entry(
            metrics=(
                _made(
                    name="make_s",
                    unit="s",
                    title="time to make",
                    when="the variant is made from the plain model",
                    from_times=True,
                    tables=frozenset({VARIANTS}),
                ),
            ),
            definition="time to make the variant from the plain model: split, export, quantize,"
            " compile",
            method="host clock around each step; for a step whose result was kept by an earlier"
            " run, the time of that run",
            uncertainty="one measurement: no interval",
            limits="includes reading where weights are quantized while they are read",
        ),
        Entry(
            metrics=(
                _made(
                    name="make_peak_bytes",
                    unit="bytes",
                    title="peak memory to make",
                    when="the variant is made from the plain model",
                    tables=frozenset({VARIANTS}),
                ),
            ),
            definition="highest resident memory while the variant is made, above that before",
            method="the process's own peak, the highest of all steps; when quantizing: that of"
            " loading",
            uncertainty="about a megabyte",
            limits="excludes GPU memory",
        ),
        Entry(
            metrics=(
                _made(
                    name="artifact_bytes",
                    is_exact=True,
                    unit="bytes",
                    title="files",
                    when="the variant is loaded from files of its own",
                    tables=frozenset({VARIANTS}),
                ),
            ),
            definition="size of the files that the variant is loaded from",
            method="file system",
            uncertainty="exact",
            limits="excludes a compiler's cache of earlier results",
        ),
        Entry(
            metrics=(
                _made(
                    name="quantized_share",
                    unit=COUNT,
                    title="quantized share",
                    better=NEITHER,
                    shown_as=SHARE,
                    when="the variant is quantized",
                ),
            ),
            definition="quantized values over all values of parameters",
            method="counted by layer",
            uncertainty="exact",
            limits="scales do not count as values",
        ),
        Entry(
            metrics=(
                _made(
                    name="bits_per_weight",
                    unit=COUNT,
                    title="bits a weight",
                    when="weights are stored in groups with scales",
                ),
            ),
            definition="bits that are stored for each quantized value, scales and zeros in",
            method="sizes of the stored tensors of all quantized layers over their values",
            uncertainty="exact",
            limits="layers that are not quantized are left out",
        ),
        Entry(
            metrics=(
                _made(
                    name="calibration_samples",
                    unit=COUNT,
                    title="calibration samples",
                    better=NEITHER,
                    when="the variant is calibrated",
                ),
            ),
            definition="samples that the model answered before it was quantized",
            method="counted; the source names the split and the seed",
            uncertainty="exact",
            limits="none",
        ),
        Entry(
            metrics=(
                _made(
                    name="compile_s",
                    unit="s",
                    title="compilation",
                    when=_COMPILED,
                    from_times=True,
                ),
            ),
            definition="time of all compilations before measuring",
            method="the compiler's own start and end",
            uncertainty="one measurement",
            limits="far shorter where the compiler finds earlier results in its cache",
        ),
        Entry(
            metrics=(
                _made(name="num_compilations", unit=COUNT, title="compilations", when=_COMPILED),
                _made(
                    name="num_recompilations", unit=COUNT, title="recompilations", when=_COMPILED
                ),
            ),
            definition="graphs that were compiled before, and after, measuring began",
            method="counted where the library hands over a traced graph",
            uncertainty="exact",
            limits="none",
        ),
        Entry(
            metrics=(
                _made(
                    name="num_kept_compilations",
                    unit=COUNT,
                    title="compilations found",
                    better=HIGHER,
                    when="graphs are compiled by shape and kept in files",
                ),
            ),
            definition="of the graphs compiled before measuring, those that an earlier process had"
            " compiled and kept in files",
            method="counted by the compiler's own cache",
            uncertainty="exact",
            limits="none",
        ),
        Entry(
            metrics=(
                _made(
                    name="compiled_calls_per_token",
                    unit=COUNT,
                    phase="decode",
                    title="compiled calls per token",
                    better=NEITHER,
                    when=_COMPILED,
                ),
            ),
            definition="calls of compiled graphs per token after the first",
            method="counted around the compiled graphs, one batch",
            uncertainty="exact",
            limits="above 1 where a step falls into several graphs",
        ),
        Entry(
            metrics=(
                _cached(
                    name="vision_cache_hits", unit=COUNT, title="pictures found", better=HIGHER
                ),
                _cached(
                    name="vision_cache_lookups",
                    unit=COUNT,
                    title="pictures looked up",
                    better=NEITHER,
                ),
            ),
            definition="pictures that were found in the cache, and pictures that were looked up",
            method="counted while every sample is answered once, from an empty cache",
            uncertainty="exact",
            limits="a family whose vision encoder takes a batch in one call looks up the batch as"
            " one",
        ),
        Entry(
            metrics=(
                _cached(
                    name="vision_cache_bytes",
                    unit="bytes",
                    title="cached embeddings",
                    better=LOWER,
                ),
            ),
            definition="size of the embeddings in the cache after the last sample",
            method="sizes of the tensors",
            uncertainty="exact",
            limits="bounded by `optimization.vision_cache.max_bytes`",
        ),
        Entry(
            metrics=(
                Metric(
                    name="acceptance_rate",
                    unit=COUNT,
                    phase="decode",
                    title="accepted drafts",
                    better=HIGHER,
                    given_by=("variant",),
                    when="the variant drafts tokens",
                    column=ADDED,
                    shown_as=SHARE,
                ),
            ),
            definition="share of drafted tokens that the model accepted, up to the end of each"
            " answer",
            method="counted by the optimization that drafts tokens, in the pass that answers every"
            " sample",
            uncertainty="exact",
            limits="empty for a variant that drafts no tokens; timed passes go on behind the end of"
            " an answer, where repetition is accepted more often",
        ),
        Entry(
            metrics=(
                _drafted(name="drafted_tokens", title="drafted tokens", better=NEITHER),
                _drafted(name="tokens_per_step", title="tokens a step", better=HIGHER),
            ),
            definition="tokens that were drafted for all samples, and new tokens for each step of"
            " decoding behind the prefill: the accepted ones and the model's own",
            method="as above",
            uncertainty="exact",
            limits="as above",
        ),
        Entry(
            metrics=(
                Metric(
                    name="visual_tokens_kept",
                    unit=COUNT,
                    phase="prefill",
                    title="visual tokens kept",
                    better=NEITHER,
                    given_by=("variant",),
                    when="the variant drops visual tokens",
                    column=ADDED,
                ),
            ),
            definition="visual tokens per sample that are left after token reduction",
            method="counted by the optimization that drops tokens",
            uncertainty="exact",
            limits="empty for a variant that drops no tokens",
        ),
        Entry(
            metrics=(
                Metric(
                    name="pruned_from_layer",
                    unit=COUNT,
                    phase="prefill",
                    title="pruned from layer",
                    better=NEITHER,
                    given_by=("variant",),
                    when="the variant drops visual tokens",
                ),
            ),
            definition="decoder layer from which on the dropped visual tokens are missing; 0:"
            " before the decoder",
            method="the setting, or what the method has by default",
            uncertainty="exact",
            limits="as above",
        ),
    ),
)
