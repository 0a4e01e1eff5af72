"""Tokens per sample, in and out."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ADDED,
    ANSWERS,
    COUNT,
    EXPERIMENT,
    FIXED,
    NEITHER,
    RECORD,
    RUN,
    WHOLE,
    Entry,
    Group,
    Metric,
)

_tokens = partial(
    Metric,
    unit=COUNT,
    phase=RUN,
    better=NEITHER,
    given_by=(EXPERIMENT,),
    column=FIXED,
    tables=frozenset({ANSWERS}),
)
_setting = partial(
    Metric,
    unit=COUNT,
    phase=RUN,
    better=NEITHER,
    kind=WHOLE,
    given_by=(RECORD,),
    column=ADDED,
    is_setting=True,
)

TOKENS = Group(
    title="Counts",
    text="",
    literature="the tensors that the network received and returned.",
    entries=(
        Entry(
            metrics=(_tokens(name="num_question_tokens", title="question tokens"),),
            definition="tokens of the question inside the template, mean per sample",
            method="the tokenizer's offsets",
            uncertainty="exact",
            limits="a token on the border counts as part of the question",
        ),
        Entry(
            metrics=(_tokens(name="num_prompt_tokens", title="prefilled tokens"),),
            definition="all tokens that the language model is prefilled with, mean per sample",
            method="attention mask of the encoded batch",
            uncertainty="exact",
            limits="excludes padding, which costs time all the same",
        ),
        Entry(
            metrics=(_tokens(name="num_visual_tokens", title="visual tokens"),),
            definition="those of them that stand for the picture, mean per sample",
            method="image tokens in the encoded batch",
            uncertainty="exact",
            limits="depends on the model: not a measure of detail",
        ),
        Entry(
            metrics=(_tokens(name="num_new_tokens", title="tokens until stop"),),
            definition="tokens of the answer up to and including its end, mean per sample",
            method="from the generation that stops by itself",
            uncertainty="exact",
            limits="costs are measured at `max_new_tokens`; `unavailable` with random weights",
        ),
        Entry(
            metrics=(
                _setting(name="num_pictures", title="pictures"),
                _setting(name="num_frames", title="frames"),
            ),
            definition="pictures, or frames of a clip, that each sample is to show",
            method="resolved configuration; null is resolved where all samples show as many",
            uncertainty="exact; empty where samples differ, `answers.jsonl` has each sample's",
            limits="pictures that are added are of other samples, drawn by the seed; a clip that is"
            " made of a picture does not move",
        ),
        Entry(
            metrics=(
                _tokens(name="pictures", title="pictures shown", column=ADDED, tables=frozenset()),
                _tokens(name="frames", title="frames shown", column=ADDED, tables=frozenset()),
            ),
            definition="pictures, and frames of a clip, that a sample shows, mean per sample",
            method="what was read of every sample's files",
            uncertainty="exact",
            limits="frames that fill the last temporal patch of a clip are not counted, though they"
            " are computed; a clip has no pictures",
        ),
    ),
)
