"""One streamed answer: its text, when its tokens arrived, and how many the server counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiling.engines.endpoint.failures import EndpointError, read_message
from profiling.engines.trace import Mark

DONE = "[DONE]"
_SHOWN = 80
_REASONING = ("reasoning_content", "reasoning")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one request. Marks count the tokens that had arrived at a moment."""

    text: str
    marks: tuple[Mark, ...]
    # Whether the server said how many tokens there are; else events with text were counted.
    is_counted: bool
    # Whether each mark's count is known, and not spread evenly over the events.
    marks_are_exact: bool
    prompt_tokens: int | None
    cached_tokens: int | None
    finish: str | None
    first_logprob: float | None

    @property
    def num_tokens(self) -> int:
        return self.marks[-1].tokens


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """An event that brought text, or the end of the answer."""

    moment: Any
    has_text: bool
    # Tokens so far, where the event says so.
    known: int | None


@dataclass(kw_only=True)
class Stream:
    """Takes the events of one answer, one after another."""

    where: str
    is_done: bool = False
    _arrivals: list[_Arrival] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)
    _usage: Mapping[str, Any] = field(default_factory=dict)
    _finish: str | None = None
    _has_choices: bool = False
    _first_logprob: float | None = None

    @property
    def num_events(self) -> int:
        return len(self._arrivals)

    def take(self, data: str, moment: Any) -> None:
        if data.strip() == DONE:
            self.is_done = True
            return
        event = self._parse(data)
        usage = _inner(event, "usage")
        if usage:
            self._usage = usage
        choices = event.get("choices") or ()
        if not isinstance(choices, Sequence) or not all(isinstance(c, Mapping) for c in choices):
            raise EndpointError(f"{self.where}: choices of an event are no list: {_show(data)}")
        for choice in choices:
            self._take_choice(choice, moment, _whole(usage, "completion_tokens"))

    def _parse(self, data: str) -> Mapping[str, Any]:
        try:
            event = json.loads(data)
        except ValueError:
            raise EndpointError(f"{self.where}: an event is not JSON: {_show(data)}") from None
        if not isinstance(event, Mapping):
            raise EndpointError(f"{self.where}: an event is not an object: {_show(data)}")
        if event.get("error"):
            after = f"after {self.num_events} events"
            raise EndpointError(f"{self.where}: the server failed {after}: {read_message(data)}")
        if event.keys() >= {"message", "code"} and "choices" not in event:
            raise EndpointError(f"{self.where}: the server failed: {read_message(data)}")
        return event

    def _take_choice(self, choice: Mapping[str, Any], moment: Any, known: int | None) -> None:
        self._has_choices = True
        delta = choice.get("delta")
        delta = delta if isinstance(delta, Mapping) else {}
        piece = _read_text(delta.get("content"))
        has_text = bool(piece) or any(delta.get(name) for name in (*_REASONING, "tool_calls"))
        if piece:
            self._pieces.append(piece)
        if self._first_logprob is None:
            self._first_logprob = _logprob(choice)
        self._finish = choice.get("finish_reason") or self._finish
        is_end = bool(choice.get("finish_reason"))
        has_text = has_text or self._is_counted_further(known, is_end=is_end)
        if has_text or is_end:
            self._arrivals.append(_Arrival(moment=moment, has_text=has_text, known=known))

    def _is_counted_further(self, known: int | None, *, is_end: bool) -> bool:
        """Whether the usage of an event without text tells of a token in it.

        Usage that comes with the last event alone sums up the answer and tells of no token.
        """
        counts = [arrival.known for arrival in self._arrivals if arrival.known is not None]
        if known is None or (is_end and not counts):
            return False
        return known > max(counts, default=0)

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the answer ends here."""
        return self.is_done or self._finish is not None

    def finish(self) -> Answer:
        """The whole answer; an error where the stream ended before it."""
        if not self.is_whole:
            raise EndpointError(
                f"{self.where}: the stream broke off after {self.num_events} events"
            )
        if not self._has_choices or not self._arrivals:
            raise EndpointError(f"{self.where}: the answer has no choices")
        total = _whole(self._usage, "completion_tokens")
        if total == 0 and any(arrival.has_text for arrival in self._arrivals):
            # Text is made of tokens: this server does not count.
            total = None
        marks, exact = _count(self._arrivals, total)
        return Answer(
            text=_join("".join(self._pieces)),
            marks=marks,
            is_counted=total is not None,
            marks_are_exact=exact,
            prompt_tokens=_whole(self._usage, "prompt_tokens"),
            cached_tokens=_whole(_inner(self._usage, "prompt_tokens_details"), "cached_tokens"),
            finish=self._finish,
            first_logprob=self._first_logprob,
        )


def _count(arrivals: Sequence[_Arrival], total: int | None) -> tuple[tuple[Mark, ...], bool]:
    """Tokens that had arrived at each event, and whether each of these counts is known.

    The end of an answer is a token without text: it arrives with the last event where the server
    counts more tokens than events with text.
    """
    with_text = [arrival for arrival in arrivals if arrival.has_text]
    if with_text and all(arrival.known for arrival in with_text):
        known = [Mark(a.moment, a.known) for a in arrivals if a.known]
        if not arrivals[-1].known and total is not None and total > known[-1].tokens:
            known.append(Mark(arrivals[-1].moment, total))
        return tuple(known), True
    counted = len(with_text) if total is None else total
    shown = list(arrivals) if counted > len(with_text) or not with_text else with_text
    if counted == len(shown):
        return tuple(Mark(a.moment, n + 1) for n, a in enumerate(shown)), total is not None
    # The end follows a single event of text at once, whatever the tokens before it took.
    return _spread(with_text if len(with_text) == 1 else shown, counted), False


def _spread(arrivals: Sequence[_Arrival], total: int) -> tuple[Mark, ...]:
    """Tokens evenly over events, the first with one: only their sum is known."""
    steps = len(arrivals) - 1
    if not steps:
        return (Mark(arrivals[0].moment, total),)
    return tuple(
        Mark(arrival.moment, round(1 + number * (total - 1) / steps) if total else 0)
        for number, arrival in enumerate(arrivals)
    )


def _read_text(content: Any) -> str:
    """The text of a delta, which may be a list of parts of several kinds."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return str(content) if content else ""


def _join(text: str) -> str:
    """Text in which events may have divided a character between the halves of its escape."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _logprob(choice: Mapping[str, Any]) -> float | None:
    """The log-probability of the first token in an event, where the server gives it."""
    found = choice.get("logprobs")
    listed = found.get("content") if isinstance(found, Mapping) else None
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], Mapping):
        return None
    value = listed[0].get("logprob")
    return float(value) if isinstance(value, (int, float)) else None


def _inner(values: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    inner = values.get(name)
    return inner if isinstance(inner, Mapping) else None


def _whole(values: Mapping[str, Any] | None, name: str) -> int | None:
    value = values.get(name) if values else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _show(data: str) -> str:
    text = " ".join(data.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
