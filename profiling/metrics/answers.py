"""Quality of the answers, by the text metrics that come with the project."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ANSWERS,
    COMPARED,
    COUNT,
    CURVES,
    EFFECTS,
    FIXED,
    GROWTH,
    HIGHER,
    LOWER,
    NEITHER,
    OVERVIEW,
    RECORD,
    RUN,
    SHARE,
    TEXT,
    VARIANTS,
    Entry,
    Group,
    Metric,
)

quality = partial(Metric, unit=COUNT, phase=RUN)
"""A metric of the answers of a run; a text metric declares its own ones with it."""

_wer = partial(quality, given_by=("wer",), better=LOWER)
_edits = partial(quality, given_by=("wer",), better=NEITHER)
_nll = partial(quality, given_by=("reference_nll",), better=LOWER)
_accuracy = partial(
    quality, given_by=("vqa_accuracy", "option_accuracy"), better=HIGHER, shown_as=SHARE
)

QUALITY = Group(
    title="Quality",
    text="""Only new tokens are judged, from a generation that stops by itself. Text is normalized
by a named, versioned normalizer (`words-1`: lower case; everything except word characters and
apostrophes becomes a space). With `weights=random` every row of this section is `unavailable`.

A text metric that is added as a file of `profiling/quality/` declares itself there.
`python -m profiling.metrics` prints this page with it.""",
    literature="""jiwer for the alignment; Morris, Maier and Green, "From WER and RIL to MER and
WIL", Interspeech 2004, on WER above 1; Antol et al., "VQA", ICCV 2015, and Singh et al., "Towards
VQA models that can read", CVPR 2019, for VQA accuracy; Lu et al., "Learn to explain" (ScienceQA),
NeurIPS 2022; Wilson, JASA 22 (1927), for the interval of a share; Cochran, *Sampling Techniques*
(3rd ed., 1977), ch. 6, for that of a ratio; Vedantam et al., CVPR 2015 (CIDEr); Papineni et al.,
ACL 2002 (BLEU); Lin, 2004 (ROUGE).""",
    entries=(
        Entry(
            metrics=(
                _wer(
                    name="wer",
                    title="WER",
                    in_sentences="word error rate",
                    column=FIXED,
                    bounds=("wer_ci_low", "wer_ci_high"),
                    tables=frozenset(
                        {OVERVIEW, EFFECTS, ANSWERS, VARIANTS, COMPARED, GROWTH, CURVES}
                    ),
                ),
            ),
            definition="word error rate: all substitutions, deletions and insertions over all"
            " reference words",
            method="jiwer, against the first reference (coco, scienceqa) or the majority reference"
            " (textvqa)",
            uncertainty="`wer_ci_low` to `wer_ci_high`",
            limits="above 1 for long answers; not the mean of the samples' rates",
        ),
        Entry(
            metrics=(
                _wer(name="wer_ci_low", title="WER, low end"),
                _wer(name="wer_ci_high", title="WER, high end"),
            ),
            definition="95% interval of `wer` over samples",
            method="ratio estimator, Student's t corrected for skewness",
            uncertainty="approximate: the more so the fewer samples have errors",
            limits="`unavailable` for fewer than 20 samples, or where samples do not differ",
        ),
        Entry(
            metrics=(
                _edits(name="wer_substitutions", title="substitutions"),
                _edits(name="wer_deletions", title="deletions"),
                _edits(name="wer_insertions", title="insertions"),
                _edits(name="wer_reference_words", title="reference words"),
            ),
            definition="the counts that `wer` is made of",
            method="counts of the alignment",
            uncertainty="exact",
            limits="alignments of equal cost may split differently",
        ),
        Entry(
            metrics=(
                _wer(
                    name="wer_mean_clipped",
                    title="WER, clipped mean",
                    tables=frozenset({ANSWERS}),
                ),
            ),
            definition="mean over samples of the sample's rate, each at most 1",
            method="the same alignments",
            uncertainty="that of a mean over samples",
            limits="a short reference counts as much as a long one",
        ),
        Entry(
            metrics=(
                _wer(
                    name="wer_best_reference",
                    title="WER, best reference",
                    tables=frozenset({ANSWERS}),
                ),
            ),
            definition="corpus rate against the nearest reference of each sample",
            method="the same alignment against each reference",
            uncertainty="as `wer`",
            limits="equals `wer` where there is one reference",
        ),
        Entry(
            metrics=(
                quality(
                    name="cer",
                    title="CER",
                    in_sentences="character error rate",
                    better=LOWER,
                    given_by=("cer",),
                    column=FIXED,
                    tables=frozenset({ANSWERS, COMPARED}),
                ),
            ),
            definition="character error rate: errors over reference characters, spaces included",
            method="jiwer, the same references",
            uncertainty="as `wer`, not stated",
            limits="can exceed 1 likewise",
        ),
        Entry(
            metrics=(
                _nll(
                    name="reference_nll",
                    title="reference NLL",
                    in_sentences="nats per token of the reference",
                    bounds=("reference_nll_ci_low", "reference_nll_ci_high"),
                    tables=frozenset({ANSWERS, COMPARED, CURVES}),
                ),
            ),
            definition="mean over samples of the negative log-likelihood of the reference, in nats"
            " per token, each token given all before it",
            method="the library's generate, its choice replaced by the token of the reference that"
            " `wer` uses, and by the end token; `answers.jsonl` has each sample's value, so two"
            " runs can be paired by sample",
            uncertainty="`reference_nll_ci_low` to `reference_nll_ci_high`",
            limits="the reference is tokenized by itself, so a checkpoint that expects a space"
            " before it pays for that; comparable only between runs of one model and tokenizer",
        ),
        Entry(
            metrics=(
                _nll(name="reference_nll_ci_low", title="reference NLL, low end"),
                _nll(name="reference_nll_ci_high", title="reference NLL, high end"),
            ),
            definition="95% interval of `reference_nll`",
            method="Student's t over samples, corrected for skewness (Hall, J. R. Stat. Soc. B 54,"
            " 1992), from 20 samples on",
            uncertainty="for lognormal values (standard deviation of the logs 1) misses the mean in"
            " 9% of cases with 20 samples, in 6% with 60",
            limits="`unavailable` for fewer samples; of one run: a paired difference of two runs"
            " has a narrower one",
        ),
        Entry(
            metrics=(
                _accuracy(
                    name="accuracy",
                    title="accuracy",
                    column=FIXED,
                    bounds=("accuracy_ci_low", "accuracy_ci_high"),
                    source_column="accuracy_name",
                    tables=frozenset({OVERVIEW, EFFECTS, ANSWERS, COMPARED}),
                ),
            ),
            definition="VQA accuracy (textvqa), or share of right options (scienceqa)",
            method="VQA: mean over leave-one-out subsets of min(1, agreeing/3); options: parsed"
            " from the answer",
            uncertainty="`accuracy_ci_low` to `accuracy_ci_high`",
            limits="published scores are over whole data sets, and some leave unparsed answers out",
        ),
        Entry(
            metrics=(
                quality(
                    name="accuracy_name",
                    title="which accuracy",
                    better=NEITHER,
                    given_by=(RECORD,),
                    column=FIXED,
                    kind=TEXT,
                ),
            ),
            definition="which accuracy it is",
            method="the source of `accuracy`",
            uncertainty="none",
            limits="empty for captions",
        ),
        Entry(
            metrics=(
                _accuracy(name="accuracy_ci_low", title="accuracy, low end"),
                _accuracy(name="accuracy_ci_high", title="accuracy, high end"),
            ),
            definition="95% interval over samples",
            method="Wilson's interval",
            uncertainty="conservative for graded scores",
            limits="samples are assumed to be independent",
        ),
        Entry(
            metrics=(
                quality(
                    name="option_parse_failure_rate",
                    title="no option in the answer",
                    better=LOWER,
                    given_by=("option_accuracy",),
                    shown_as=SHARE,
                    tables=frozenset({ANSWERS}),
                ),
            ),
            definition="share of answers that name no option",
            method="the same parser",
            uncertainty="exact",
            limits="such answers count as wrong",
        ),
        Entry(
            metrics=(
                quality(
                    name="bleu4",
                    title="BLEU-4",
                    better=HIGHER,
                    given_by=("bleu4",),
                    tables=frozenset({ANSWERS}),
                ),
                quality(
                    name="rouge_l",
                    title="ROUGE-L",
                    better=HIGHER,
                    given_by=("rouge_l",),
                    tables=frozenset({ANSWERS}),
                ),
                quality(
                    name="cider_d",
                    title="CIDEr-D",
                    better=HIGHER,
                    given_by=("cider_d",),
                    tables=frozenset({ANSWERS}),
                ),
            ),
            definition="similarity of captions to all their references",
            method="sacrebleu; longest common subsequence by rapidfuzz, beta 1.2; own CIDEr-D",
            uncertainty="not stated",
            limits="on a subset, and with this normalizer, not comparable with published values",
        ),
        Entry(
            metrics=(
                quality(
                    name="empty_references",
                    title="empty references",
                    better=NEITHER,
                    given_by=("empty_references",),
                ),
                quality(
                    name="wer_left_out_samples",
                    title="samples without a reference",
                    better=NEITHER,
                    given_by=("empty_references",),
                ),
            ),
            definition="references that are empty after normalization, and samples that are left"
            " out for it",
            method="counted",
            uncertainty="exact",
            limits="such a sample is left out of `wer` and `cer` only",
        ),
    ),
)
