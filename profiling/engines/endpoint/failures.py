"""What a server does wrong or refuses, each as one line that the user can act on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

_LONGEST = 300
_NAMED_MODELS = 10
_REFUSED_KEY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
# Words by which servers say that a prompt does not fit: they share no error code.
_TOO_LONG = (
    "context length",
    "context size",
    "context window",
    "context_length",
    "exceed_context",
    "input validation error: `inputs`",
    "longer than the maximum",
    "maximum model length",
    "max_model_len",
    "too long",
)


class EndpointError(RuntimeError):
    """The server did not answer as asked; the message is one line and holds no key.

    `status` is the HTTP status, where there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Whether the server refused the request as it was written, and not the model or key."""
        return self.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


def read_message(body: str) -> str:
    """The server's own words in the body of an error, in whichever form it gives them."""
    try:
        content = json.loads(body)
    except ValueError:
        content = body
    text = " ".join((_find_text(content) or body).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _find_text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "; ".join(filter(None, map(_find_text, content))) or None
    if not isinstance(content, Mapping):
        return None
    found = (_find_text(content.get(name)) for name in ("error", "message", "detail", "msg"))
    return next((text for text in found if text), None)


def explain_status(status: int, message: str, *, where: str) -> EndpointError:
    """The error for an answer of another status than 200, 404 and redirections apart."""
    said = f": {message}" if message else ""
    if status in _REFUSED_KEY:
        what = "the server refuses the API key, or wants one (engine.api_key_env)"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        what = "the server still limits the rate after engine.retries repetitions"
    elif is_too_long(message):
        what = "the prompt is longer than the context of the served model"
    else:
        what = f"the server answers with {_name(status)}"
    return EndpointError(f"{where}: status {status}: {what}{said}", status=status)


def is_too_long(message: str) -> bool:
    text = message.lower()
    return any(words in text for words in _TOO_LONG)


def explain_missing(message: str, *, where: str, model: str, known: Sequence[str]) -> EndpointError:
    """The error for status 404: the model or the path is not there."""
    listed = ", ".join(known[:_NAMED_MODELS]) + (", …" if len(known) > _NAMED_MODELS else "")
    has = f"it has {listed}" if known else "it lists no models; is engine.url right?"
    said = f": {message}" if message else ""
    return EndpointError(
        f"{where}: status 404: engine.model={model} is not there, {has}{said}",
        status=HTTPStatus.NOT_FOUND,
    )


def explain_redirection(status: int, target: str, *, where: str) -> EndpointError:
    to = f" to {target.partition('?')[0]}" if target else ""
    return EndpointError(
        f"{where}: status {status}: the server redirects{to}; give the final address as engine.url",
        status=status,
    )


def _name(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "an unknown status"
