"""Tokens per sample, in and out."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    ANSWERS,
    COUNT,
    EXPERIMENT,
    FIXED,
    NEITHER,
    RUN,
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
    ),
)
