"""What the settings of the endpoint engine may be, known before anything is sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from profiling.errors import ConfigError, require_one_of, require_whole

PICTURE_FORMATS = ("png", "jpeg")
PICTURE_FITS = ("area", "square", "crop")
PICTURE_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
LENGTH_FIELDS = ("max_tokens", "max_completion_tokens")
# Fields of a request that the engine sets itself: another value would break what is measured.
OWN_FIELDS = ("messages", "model", "n", "stream", *LENGTH_FIELDS)
_EXAMPLE = "allowed is an address such as http://localhost:8000/v1"
# Shown in the place of a value that may hold a key or a password.
HIDDEN = "…"
# A day, which is less than what a socket can wait.
_LONGEST_S = 86_400
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings that cannot be right, with one line that names the key."""
    _check_url(settings["url"])
    _check_model(settings["model"])
    read_key(settings["api_key_env"])
    for name in ("timeout_s", "connect_timeout_s"):
        _check_seconds(name, settings[name])
    require_whole("engine.retries", settings["retries"], at_least=0, at_most=100)
    require_whole("engine.jpeg_quality", settings["jpeg_quality"], at_least=1, at_most=100)
    require_whole("engine.picture_multiple", settings["picture_multiple"], at_least=1)
    require_whole("engine.longest_pause_s", settings["longest_pause_s"], at_least=0)
    for name, allowed in (
        ("picture_format", PICTURE_FORMATS),
        ("picture_fit", PICTURE_FITS),
        ("picture_filter", PICTURE_FILTERS),
        ("length_field", LENGTH_FIELDS),
    ):
        require_one_of(f"engine.{name}", settings[name], allowed)
    _check_body(settings["extra_body"])


def read_key(variable: object) -> str | None:
    """The API key that the environment variable holds; None where no variable is named.

    No error shows the value of the setting: it may be a key that was typed by mistake.
    """
    if variable is None:
        return None
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        _refuse_key("allowed is the name of an environment variable, not the key itself")
    key = os.environ.get(variable, "").strip()
    if not key:
        _refuse_key("this environment variable is not set, or it is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        _refuse_key("the variable's value has characters that a header cannot hold")
    return key


def _refuse_key(allowed: str) -> NoReturn:
    raise ConfigError("engine.api_key_env", HIDDEN, allowed) from None


def _check_url(url: object) -> None:
    if not isinstance(url, str) or not url.strip():
        raise ConfigError("engine.url", url, f"{_EXAMPLE}; give it as engine.url=…")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("engine.url", HIDDEN, _EXAMPLE) from None
    if parts.username is not None or parts.password is not None:
        reason = "no user or password in the address; engine.api_key_env names a key's variable"
        raise ConfigError("engine.url", HIDDEN, reason)
    if parts.query or parts.fragment:
        raise ConfigError("engine.url", HIDDEN, f"{_EXAMPLE}, without ? and #")
    if parts.scheme not in ("http", "https") or not host or any(map(str.isspace, url)):
        raise ConfigError("engine.url", url, _EXAMPLE)


def _check_model(model: object) -> None:
    if not isinstance(model, str) or not model.strip():
        reason = "allowed is the name that the server has for the model; give it as engine.model=…"
        raise ConfigError("engine.model", model, reason)


def _check_seconds(name: str, value: object) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (0 < value <= _LONGEST_S)
    ):
        raise ConfigError(
            f"engine.{name}", value, f"allowed is a number of seconds above 0, up to {_LONGEST_S:,}"
        )


def _check_body(body: object) -> None:
    if body is None:
        return
    if not isinstance(body, Mapping):
        raise ConfigError("engine.extra_body", body, "allowed are fields by name, as {top_k: 1}")
    for name in body:
        if name in OWN_FIELDS:
            reason = f"not allowed: the engine sets {', '.join(OWN_FIELDS)} itself"
            raise ConfigError(f"engine.extra_body.{name}", body[name], reason)
