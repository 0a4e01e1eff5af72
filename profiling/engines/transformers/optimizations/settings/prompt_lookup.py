"""What `optimization.prompt_lookup` may be given."""

from __future__ import annotations

from profiling.points.settings import Settings


def check(settings: Settings) -> None:
    settings.require_whole("num_tokens", at_least=1)
    settings.require_whole("ngram", at_least=1)
