"""Errors that are one line for the user: a wrong configuration, or what cannot be done here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

_LONGEST_SHOWN = 200
# Keys after which people type secrets, also where the name of a variable was asked for.
_SECRET = re.compile(r"(key|token|secret|password|_env)$", re.IGNORECASE)
HIDDEN = "…"


class Unsupported(RuntimeError):
    """What this machine, family or installed package cannot do: one line that says why."""


class ConfigError(ValueError):
    """A configuration that cannot be right: one line that names key, value and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(one_line(f"{shorten(key)}={_show_of(key, value)}: {allowed}"))
        self.key, self.value, self.allowed = key, value, allowed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.value, self.allowed)


def unknown_key(key: str, value: object, known: Iterable[str]) -> ConfigError:
    return ConfigError(key, value, describe_unknown(key, list(known)))


def describe_unknown(key: str, known: Sequence[str], inner: Iterable[str] = ()) -> str:
    """What is allowed in the place of an unknown key, and which of it is most like the key.

    `inner` are keys of other places, which may have been meant without the place before them.
    """
    nearest = get_close_matches(key[:_LONGEST_SHOWN], known, n=1)
    nearest = nearest or [name for name in inner if name.rpartition(".")[2] == key][:1]
    suggestion = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown key; allowed are {', '.join(known)}{suggestion}"


def require_one_of(key: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse every other value, and list the allowed ones as they are typed."""
    if value not in allowed:
        listed = ", ".join(_show(one) for one in allowed)
        raise ConfigError(key, value, f"allowed is {'one of ' * (len(allowed) > 1)}{listed}")


def require_switch(key: str, value: object) -> bool:
    """Only true and false: a number or a text is more likely meant for another key."""
    if not isinstance(value, bool):
        raise ConfigError(key, value, "allowed are true and false")
    return value


def require_whole(
    key: str, value: object, *, at_least: int, at_most: int | None = None, besides: str = ""
) -> int:
    """A whole number within its limits; `besides` names what else may be typed."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < at_least
        or (at_most is not None and value > at_most)
    ):
        upper = "" if at_most is None else f" to {at_most}"
        raise ConfigError(key, value, f"allowed is a whole number from {at_least}{upper}{besides}")
    return value


def is_secret(key: str) -> bool:
    """Whether the value of a key must not be shown."""
    return _SECRET.search(key) is not None


def _show_of(key: str, value: object) -> str:
    return HIDDEN if value is not None and is_secret(key) else _show(value)


def _show(value: object) -> str:
    """As it is typed, shortened in the middle where it is too long for a line."""
    return shorten(json.dumps(value) if value is None or isinstance(value, bool) else value)


def shorten(value: object) -> str:
    """A value as text, without its middle where that is too long for a line."""
    text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:80]}…{text[-40:]}"


def describe_error(error: BaseException) -> str:
    """The class of an error and its first line, for errors that are not the user's."""
    line = str(error).partition("\n")[0][:_LONGEST_SHOWN]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def printable(text: str) -> str:
    """Without control characters, which a terminal or a page would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(text: str) -> str:
    """Without line breaks and without control characters."""
    return printable(" ".join(text.split()))
