"""What is known of a server that a point was run by."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    HIGHER,
    LOWER,
    NEITHER,
    RUN,
    SHARE,
    Entry,
    Group,
    Metric,
)

_told = partial(
    Metric, unit="1", phase=RUN, better=NEITHER, given_by=("endpoint",), when="engine=endpoint"
)

SERVER = Group(
    title="The server",
    text="""Only with `engine=endpoint`; [endpoint.md](endpoint.md) explains what is measured there
and what is not.""",
    literature="""the documentation of vLLM, SGLang, llama.cpp, TGI and `transformers serve`; NVIDIA
AIPerf, metrics reference, for TTFT and inter-token latency from the arrivals of a stream.""",
    entries=(
        Entry(
            metrics=(_told(name="server_identified", title="server identified"),),
            definition="1 where the server names itself; the source has name, version and models",
            method="the paths at which each kind of server describes itself",
            uncertainty="none",
            limits="a proxy in front of the server may hide them",
        ),
        Entry(
            metrics=(_told(name="prefix_caching", title="prefix caching"),),
            definition="1 where the server is known to cache prefixes, 0 where it is known not to;"
            " the source says how earlier passes are kept out",
            method="the server's metrics or settings",
            uncertainty="none",
            limits="`unavailable` where the server does not tell; excludes caches of pictures",
        ),
        Entry(
            metrics=(_told(name="cached_prompt_share", title="cached prompt", shown_as=SHARE),),
            definition="share of all prompt tokens that came from the server's cache",
            method="`cached_tokens` over `prompt_tokens` in the usage of all answers",
            uncertainty="exact",
            limits="`unavailable` where the server does not tell",
        ),
        Entry(
            metrics=(
                _told(
                    name="exact_length_share", title="exact length", better=HIGHER, shown_as=SHARE
                ),
            ),
            definition="share of the timed answers that have exactly `max_new_tokens` tokens; below"
            " 1, times are of the length that the model chose",
            method="counted by the server (usage); the source says how the length was requested",
            uncertainty="exact",
            limits="an answer may have the length by chance",
        ),
        Entry(
            metrics=(
                _told(
                    name="token_marks_share", title="marked tokens", better=HIGHER, shown_as=SHARE
                ),
            ),
            definition="share of the answers in which the tokens of each event are known",
            method="usage of every event, or as many events as tokens",
            uncertainty="exact",
            limits="in the other answers tokens are spread evenly over the events, which changes"
            " `tpot_s` by the tokens of the first event only",
        ),
        Entry(
            metrics=(_told(name="num_repeated_requests", title="repeated requests", better=LOWER),),
            definition="requests that were sent again after status 429 or 503",
            method="counted",
            uncertainty="exact",
            limits="the pauses are in the times",
        ),
        Entry(
            metrics=(_told(name="streams_at_once", title="streams at once", better=HIGHER),),
            definition="answers of a batch that were streamed at the same time, mean over time",
            method="time of all streams over the time in which any was open, mean over batches",
            uncertainty="that of the arrivals",
            limits="1 where the server answers one request after another and the others queue;"
            " `unavailable` for a batch of one",
        ),
        Entry(
            metrics=(_told(name="picture_effect", title="effect of the picture", better=HIGHER),),
            definition="share of up to eight other pictures that changed the answer to a question",
            method="log-probability of the first token where the server gives it, otherwise the"
            " text; the first picture is asked about twice, as a control",
            uncertainty="a check, not a measurement: 0 means that the server very likely drops"
            " pictures",
            limits="`unavailable` where all samples have one picture",
        ),
    ),
)
