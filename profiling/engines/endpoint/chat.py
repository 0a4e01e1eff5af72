"""The body of a request, and which optional fields of it a server understands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.engines.endpoint.answer import Answer
from profiling.engines.endpoint.client import Client
from profiling.engines.endpoint.failures import EndpointError

# The server's usage comes with every event where it can, and otherwise at the end.
_USAGE: tuple[Mapping[str, Any], ...] = (
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"stream_options": {"include_usage": True}},
)
_LOGPROBS = {"logprobs": True}
_TRIED_TOKENS = 16
NOT_EXACT = (
    "the server has no way to answer with an exact number of tokens: ignore_eos with min_tokens,"
    " ignore_eos alone and generation_config were tried"
)

Fields = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExactLength:
    """A way to have a server go on to an exact number of tokens."""

    name: str
    fields: Callable[[int], Fields]


def _generation_config(length: int) -> Fields:
    exact = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False}
    return {"generation_config": json.dumps(exact)}


EXACT_WAYS = (
    ExactLength(
        name="ignore_eos and min_tokens",
        fields=lambda length: {"ignore_eos": True, "min_tokens": length},
    ),
    ExactLength(name="ignore_eos", fields=lambda _: {"ignore_eos": True}),
    ExactLength(name="generation_config", fields=_generation_config),
)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One question about pictures, as a message; they stand before it, in their order."""

    question: str
    pictures: tuple[str, ...]

    def messages(self) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": picture}} for picture in self.pictures
        ]
        content.append({"type": "text", "text": self.question})
        return [{"role": "user", "content": content}]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a server understands beyond the plain request."""

    usage: Fields
    exact: ExactLength | None
    logprobs: Fields

    def ask(self, client: Client, chat: Chat, *, length: int, exact: bool, more: Fields) -> Answer:
        fields = dict(self.exact.fields(length)) if exact and self.exact else {}
        return client.ask(write_body(client, chat, length, {**self.usage, **fields, **more}))


def write_body(client: Client, chat: Chat, length: int, fields: Fields) -> dict[str, Any]:
    """The request; a field that the user set to null is left out."""
    body = {
        "model": client.model,
        "messages": chat.messages(),
        "stream": True,
        "temperature": 0,
        client.settings["length_field"]: length,
        **fields,
        **(client.settings["extra_body"] or {}),
    }
    return {name: value for name, value in body.items() if value is not None}


def negotiate(client: Client, chat: Chat) -> Dialect:
    """Try which optional fields are accepted; an error of the plain request is the user's."""
    client.ask(write_body(client, chat, _TRIED_TOKENS, {}))
    usage = _first_accepted(client, chat, _USAGE)
    logprobs = _try(client, chat, {**usage, **_LOGPROBS})
    has_logprobs = logprobs is not None and logprobs.first_logprob is not None
    return Dialect(
        usage=usage,
        exact=_find_exact(client, chat, usage),
        logprobs=_LOGPROBS if has_logprobs else {},
    )


def _first_accepted(client: Client, chat: Chat, choices: Sequence[Fields]) -> Fields:
    return next((fields for fields in choices if _try(client, chat, fields) is not None), {})


def _find_exact(client: Client, chat: Chat, usage: Fields) -> ExactLength | None:
    """The first way after which the answer has the length that was asked for.

    Some servers accept every field and pass over those that they do not know.
    """
    for way in EXACT_WAYS:
        answer = _try(client, chat, {**usage, **way.fields(_TRIED_TOKENS)})
        if answer is not None and answer.num_tokens == _TRIED_TOKENS:
            return way
    return None


def _try(client: Client, chat: Chat, fields: Fields) -> Answer | None:
    """The answer, or None where the server refuses the fields."""
    try:
        return client.ask(write_body(client, chat, _TRIED_TOKENS, fields))
    except EndpointError as error:
        if not error.is_refusal:
            raise
        return None
