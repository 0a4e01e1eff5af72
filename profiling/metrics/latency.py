"""Times of one batch, end to end and by phase."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COMPARED,
    EFFECTS,
    FIXED,
    GROWTH,
    HIGHER,
    LOWER,
    OVERVIEW,
    PER_SECOND,
    TOTAL,
    Entry,
    Group,
    Metric,
)

_LATENCY = ("latency",)
_time = partial(
    Metric,
    unit="s",
    phase=TOTAL,
    better=LOWER,
    given_by=_LATENCY,
    column=FIXED,
    from_times=True,
)
_rate = partial(
    Metric,
    unit=PER_SECOND,
    phase=TOTAL,
    better=HIGHER,
    given_by=_LATENCY,
    column=FIXED,
    from_times=True,
    tables=frozenset({OVERVIEW, EFFECTS}),
)


def _phase(name: str) -> Metric:
    return _time(name=f"{name}_s", phase=name, title=name)


LATENCY = Group(
    title="Latency",
    text="""All times are of one batch. Batches run in a fixed shuffled order, so that the first
few are a fair sample of all. On a CPU the clock is `perf_counter_ns`. On a GPU times come from
CUDA events in the stream, which are read after one synchronization at the end of the batch. There
is no fallback: without a clock nothing is timed.

The interval comes from order statistics and is evaluated at 10, 20, 40, ... repeats only. Its ranks
are those of the effective number of independent repeats: the smaller of two estimates, from the
autocorrelation of successive repeats and from the means of blocks of 2, 4, 8, ... repeats, both
raised by about one standard error. Where that number is below six the interval is the range, with
the confidence that it reaches; below 80% there is none. There is none either where the repeats step
out of it, or where a trend over them (a slow warm-up) has not faded at the end.

The interval covers the median of this process in this stretch of time. In simulations with the
stopping rule (independent noise, outliers, autoregression up to 0.8, two modes, slow changes, a
slow warm-up) at most 7% of runs state a 95% interval without that median in it. It does not cover
what changes from process to process, nor what changes more slowly than the stretch: with half of
the variance on a time constant of 20 passes, 23% of the runs that the rule stops miss the median of
the long run (8% of runs of 160 passes, 4% of 320); with two modes that last 40 and 20 passes, 33%
(13%, 7%). Paired comparisons over several processes cover both.""",
    literature="""David and Nagaraja, *Order Statistics* (3rd ed., 2003), 7.1, for the interval;
Kendall, "Note on bias in the estimation of autocorrelation", Biometrika 41 (1954); Flyvbjerg and
Petersen, "Error estimates on averages of correlated data", J. Chem. Phys. 91 (1989); Hoefler and
Belli, "Scientific benchmarking of parallel computing systems", SC '15, on medians with
nonparametric intervals; Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013,
on warm-up and repetition; NVIDIA CUDA Runtime API, Event Management (resolution about 0.5 µs); PEP
418 for the host's clock. TTFT and TPOT are defined as in MLPerf Inference for language models.""",
    entries=(
        Entry(
            metrics=(
                _time(
                    name="latency_s",
                    title="latency",
                    in_sentences="latency of one batch",
                    bounds=("latency_ci_low_s", "latency_ci_high_s"),
                    tables=frozenset({OVERVIEW, COMPARED, GROWTH}),
                ),
            ),
            definition="one batch end to end: preprocessing, transfer, and generation of exactly"
            " `max_new_tokens` tokens",
            method="median over repeats; the raw values of repeats, whole and by phase, have the"
            " same name",
            uncertainty="`latency_ci_low_s` to `latency_ci_high_s`",
            limits="depends on batch size and samples: compare runs with equal settings only",
        ),
        Entry(
            metrics=(
                _time(name="latency_mean_s", title="latency, mean"),
                _time(name="latency_std_s", title="latency, standard deviation"),
            ),
            definition="mean and standard deviation (with n - 1) of the repeats",
            method="computed from the same repeats",
            uncertainty="standard error of the mean: std/√n, for independent repeats only",
            limits="a single outlier moves both; the median is the headline for that reason",
        ),
        Entry(
            metrics=(
                _time(name="latency_min_s", title="latency, minimum"),
                _time(name="latency_max_s", title="latency, maximum"),
            ),
            definition="shortest and longest repeat",
            method="the same repeats",
            uncertainty="none: these values were observed",
            limits="the range grows with the number of repeats",
        ),
        Entry(
            metrics=(_time(name="latency_p95_s", title="latency, 95th percentile"),),
            definition="95th percentile, interpolated linearly between order statistics",
            method="the same repeats, from 100 on; `unavailable` with fewer",
            uncertainty="standard error of 2 percentile points at 100 repeats",
            limits="needs many repeats: set `profiler.repeats`",
        ),
        Entry(
            metrics=(
                _time(name="latency_ci_low_s", title="latency, low end"),
                _time(name="latency_ci_high_s", title="latency, high end"),
            ),
            definition="95% interval of the median",
            method="order statistics; the source has the number of repeats, the effective number"
            " and the confidence that was reached",
            uncertainty="misses the median of the stretch in at most 7% of simulated runs",
            limits="`unavailable` below 6 repeats, for strongly dependent repeats and where the"
            " level drifts out of it; says nothing of other processes and other times",
        ),
        Entry(
            metrics=(_phase("preprocess"),),
            definition="picture and text to tensors on the CPU",
            method="median; marks around the processor",
            uncertainty="resolution of the clock; the spread is in the raw rows",
            limits="with `preload=true` files are decoded and prompts rendered before",
        ),
        Entry(
            metrics=(_phase("transfer"),),
            definition="tensors to the device and to the network's dtype",
            method="median; marks around the transfer",
            uncertainty="as above",
            limits="on a CPU only the change of dtype, a few microseconds",
        ),
        Entry(
            metrics=(_phase("vision"),),
            definition="the vision encoder, without a projector inside it",
            method="median; hooks on the modules that the family declares",
            uncertainty="a hook costs a few microseconds per call",
            limits="the pictures of a batch may be processed in one call",
        ),
        Entry(
            metrics=(_phase("projector"),),
            definition="from the vision encoder's output to the language model's input",
            method="median; hooks on the modules that the family declares",
            uncertainty="as above",
            limits="`unavailable` where a family has no projector",
        ),
        Entry(
            metrics=(_phase("prefill"),),
            definition="first forward of the language model, up to its first logits; includes a"
            " text encoder",
            method="median; hooks on language model, text encoder and output head",
            uncertainty="as above",
            limits="prompts of a batch are padded to the longest",
        ),
        Entry(
            metrics=(_phase("decode"),),
            definition="from the first logits until the last token is chosen, including the choice"
            " of every token",
            method="median; hook on the output head, mark when a token is chosen",
            uncertainty="as above",
            limits="with one new token only its choice is left",
        ),
        Entry(
            metrics=(_phase("other"),),
            definition="the rest of each repeat",
            method="latency less all other phases, then the median",
            uncertainty="that of all other phases together",
            limits="holds the library's own work between the phases",
        ),
        Entry(
            metrics=(
                _time(
                    name="ttft_s",
                    title="first token",
                    in_sentences="time to the first token",
                    bounds=("ttft_ci_low_s", "ttft_ci_high_s"),
                    tables=frozenset({OVERVIEW, EFFECTS, COMPARED}),
                ),
            ),
            definition="time to first token: from the start of the batch until the first token is"
            " chosen",
            method="median; mark when the first token is chosen",
            uncertainty="`ttft_ci_low_s` to `ttft_ci_high_s`",
            limits="`engine=endpoint`: when it arrives, mean over the rows of the batch, with the"
            " network and the server's queue; other engines have no queue and no streaming",
        ),
        Entry(
            metrics=(
                _time(
                    name="tpot_s",
                    phase="decode",
                    title="per token",
                    in_sentences="time per output token",
                    bounds=("tpot_ci_low_s", "tpot_ci_high_s"),
                    tables=frozenset({OVERVIEW, EFFECTS, COMPARED}),
                ),
            ),
            definition="time per output token after the first",
            method="(last mark less first mark) over the tokens in between, then the median",
            uncertainty="`tpot_ci_low_s` to `tpot_ci_high_s`",
            limits="`unavailable` for one token; the cache grows, so it is a mean over the length",
        ),
        Entry(
            metrics=(
                _time(name="ttft_ci_low_s", title="first token, low end", column=None),
                _time(name="ttft_ci_high_s", title="first token, high end", column=None),
                _time(
                    name="tpot_ci_low_s", phase="decode", title="per token, low end", column=None
                ),
                _time(
                    name="tpot_ci_high_s", phase="decode", title="per token, high end", column=None
                ),
            ),
            definition="95% intervals of the medians `ttft_s` and `tpot_s`",
            method="as for `latency_ci_low_s`",
            uncertainty="misses the median of the stretch in at most 7% of simulated runs",
            limits="`unavailable` below 6 repeats",
        ),
        Entry(
            metrics=(_rate(name="samples_per_s", title="samples/s"),),
            definition="samples of a batch over `latency_s`",
            method="derived",
            uncertainty="that of `latency_s`",
            limits="batches run one after another and never overlap",
        ),
        Entry(
            metrics=(_rate(name="tokens_per_s", title="tokens/s"),),
            definition="timed new tokens of all rows over `latency_s`",
            method="derived",
            uncertainty="that of `latency_s`",
            limits="includes preprocessing and prefill; 1/`tpot_s` is the rate of decoding alone",
        ),
    ),
)
