"""Whether a server looks at the pictures: one question about several must get several answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiling.engines.endpoint.answer import Answer
from profiling.engines.endpoint.chat import Chat

# Differences of log-probabilities that rounding may cause.
_NO_EFFECT, _TIMES_JITTER = 1e-5, 10
Ask = Callable[[Chat], Answer]
# Those of one request, as they are sent.
Pictures = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PictureEffect:
    """How many pictures changed the answer to a question, and by what that was told."""

    tried: int
    differing: int
    by: str

    @property
    def share(self) -> float:
        return self.differing / self.tried

    @property
    def is_seen(self) -> bool:
        return self.differing > 0

    def describe(self) -> str:
        if self.is_seen:
            return f"{self.differing} of {self.tried} other pictures changed the {self.by}"
        return (
            f"the server does not seem to look at pictures: {self.tried} other pictures left the"
            f" {self.by} to the same question as it was"
        )


def check_pictures(ask: Ask, question: str, shown: Sequence[Pictures]) -> PictureEffect | None:
    """The first pictures compared with each of the others; None where all are the same."""
    others = [pictures for pictures in dict.fromkeys(shown) if pictures != shown[0]]
    if not others:
        return None
    # The first is asked twice: what a server changes by itself is no effect of a picture.
    first, again, *answers = (
        ask(Chat(question=question, pictures=pictures))
        for pictures in (shown[0], shown[0], *others)
    )
    logprobs = [one.first_logprob for one in (first, again, *answers)]
    if first.text != again.text or None in logprobs:
        changed = sum(other.text not in (first.text, again.text) for other in answers)
        return PictureEffect(tried=len(others), differing=changed, by="answer")
    known = [value for value in logprobs if value is not None]
    jitter = max(_NO_EFFECT, _TIMES_JITTER * abs(known[1] - known[0]))
    changed = sum(
        other.text != first.text or abs(value - known[0]) > jitter
        for other, value in zip(answers, known[2:], strict=True)
    )
    by = "log-probability of the first token"
    return PictureEffect(tried=len(others), differing=changed, by=by)
