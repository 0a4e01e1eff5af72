"""What was seen of a server's answers while a point ran, as readings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from profiling.engines.endpoint.answer import Answer
from profiling.engines.endpoint.chat import NOT_EXACT, ExactLength
from profiling.engines.endpoint.server import Server
from profiling.records import DERIVED, ESTIMATED, MEASURED, Reading, reading, unavailable

COUNTED = "counted by the server (usage), mean per sample"
NOT_COUNTED = (
    "events of the stream with text, mean per sample: the server sends no usage, and several tokens"
    " may come in one event"
)


@dataclass(kw_only=True)
class Observed:
    """Sums over all answers of a point."""

    answers: int = 0
    uncounted: int = 0
    spread: int = 0
    exact_wanted: int = 0
    exact_reached: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    # How many answers of a batch were streamed at the same time, on average.
    streams: list[float] = field(default_factory=list)

    def add(self, answers: Sequence[Answer], *, length: int, exact: bool) -> None:
        self.answers += len(answers)
        self.uncounted += sum(not answer.is_counted for answer in answers)
        self.spread += sum(not answer.marks_are_exact for answer in answers)
        if exact:
            self.exact_wanted += len(answers)
            self.exact_reached += sum(answer.num_tokens == length for answer in answers)
        for answer in answers:
            if answer.cached_tokens is not None and answer.prompt_tokens is not None:
                self.cached_tokens = (self.cached_tokens or 0) + answer.cached_tokens
                self.prompt_tokens += answer.prompt_tokens
        if len(answers) > 1:
            self.streams.extend(_streamed_at_once(answers))

    @property
    def counted(self) -> tuple[str, str]:
        """The status of token counts, and how they were got."""
        return (ESTIMATED, NOT_COUNTED) if self.uncounted else (DERIVED, COUNTED)

    def readings(
        self,
        *,
        server: Server,
        exact: ExactLength | None,
        kept_out: str | None,
        num_repeated: int,
    ) -> Iterator[Reading]:
        yield _identified(server)
        yield _prefix_caching(server, kept_out)
        yield self._cached_share()
        yield self._exact_share(exact)
        yield self._exact_marks()
        yield _number(
            "num_repeated_requests",
            num_repeated,
            "requests that were sent again after status 429 or 503; a pause before that is in the"
            " times",
            MEASURED,
        )
        yield self._streams()

    def _cached_share(self) -> Reading:
        if self.cached_tokens is None or not self.prompt_tokens:
            reason = "the server does not tell how many tokens of a prompt came from its cache"
            return unavailable("cached_prompt_share", reason)
        return _number(
            "cached_prompt_share",
            self.cached_tokens / self.prompt_tokens,
            "cached_tokens over prompt_tokens of all answers",
            MEASURED,
        )

    def _exact_share(self, exact: ExactLength | None) -> Reading:
        if not self.exact_wanted:
            return unavailable("exact_length_share", "no answer of exact length timed")
        share = self.exact_reached / self.exact_wanted
        how = NOT_EXACT if exact is None else f"asked for by {exact.name}"
        if share < 1:
            how += "; the others are as long as the model made them, and so are the times"
        return _number(
            "exact_length_share", share, f"timed answers of max_new_tokens tokens: {how}", MEASURED
        )

    def _exact_marks(self) -> Reading:
        return _number(
            "token_marks_share",
            1 - self.spread / self.answers if self.answers else 1.0,
            "answers in which the tokens of each event are known; in the others the tokens are"
            " spread evenly over the events",
            MEASURED,
        )

    def _streams(self) -> Reading:
        if not self.streams:
            reason = "requests were sent one at a time"
            return unavailable("streams_at_once", reason)
        return _number(
            "streams_at_once",
            sum(self.streams) / len(self.streams),
            "answers of a batch that were streamed at the same time, mean over time and batches;"
            " 1 means that the server takes one after another and the others queue",
            MEASURED,
        )


def _streamed_at_once(answers: Sequence[Answer]) -> Iterator[float]:
    """Time of all streams over the time in which any was open; nothing for instants."""
    spans = sorted((answer.marks[0].moment, answer.marks[-1].moment) for answer in answers)
    total = sum(last - first for first, last in spans)
    covered, end = 0, spans[0][0]
    for first, last in spans:
        covered += max(0, last - max(first, end))
        end = max(end, last)
    if covered:
        yield total / covered


def _identified(server: Server) -> Reading:
    if server.name is None:
        reason = "the server answers none of the requests by which known servers name themselves"
        return unavailable("server_identified", reason)
    version = server.version or "(version not told)"
    listed = f"; lists {', '.join(server.models[:5])}" if server.models else ""
    return _number("server_identified", 1, f"{server.name} {version}{listed}", MEASURED)


def _prefix_caching(server: Server, kept_out: str | None) -> Reading:
    if server.prefix_caching is None:
        return unavailable("prefix_caching", server.prefix_caching_source)
    source = server.prefix_caching_source
    if server.prefix_caching:
        source += f"; {kept_out}" if kept_out else "; later passes over the samples may profit"
    return _number("prefix_caching", int(server.prefix_caching), source, MEASURED)


def _number(metric: str, value: float, source: str, status: str) -> Reading:
    return reading(metric=metric, value=value, source=source, status=status)
