"""What a reader has to know before trusting the numbers of a run that a server answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from profiling.report.read.runs import Run
from profiling.report.say import escape
from profiling.report.say.units import percent

# A server that reuses more of the prompts than a template takes skips work that is measured.
_MOSTLY_CACHED = 0.5


def list_cautions(run: Run) -> list[str]:
    """Each as a clause without a full stop; none for an engine that leaves no such readings."""
    return list(_find_cautions(run))


def _find_cautions(run: Run) -> Iterator[str]:
    exact, cached = run.number("exact_length_share"), run.number("cached_prompt_share")
    repeated = run.number("num_repeated_requests")
    if run.number("picture_effect") == 0:
        yield "the server does not seem to look at the pictures"
    if exact is not None and exact < 1:
        yield (
            f"{percent(1 - exact)} of the timed answers have the length that the model chose and"
            " not max_new_tokens; compare times per token only"
        )
    if cached is not None and cached > _MOSTLY_CACHED:
        yield f"{percent(cached)} of the prompt tokens came from the server's cache"
    if repeated:
        yield f"{repeated:.0f} requests were refused and sent again; the pauses are in the times"


def say_cautions(runs: Sequence[Run]) -> list[str]:
    """The cautions of all runs as sentences, each with its run."""
    return [
        f"**Caution, `{run.short}`**: {escape.markdown(caution)}."
        for run in runs
        for caution in list_cautions(run)
    ]
