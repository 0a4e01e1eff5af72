"""Values that a notebook shows as text or as a picture, and a terminal as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


class Notes(Sequence[str]):
    """Sentences; a notebook shows them as a list."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = tuple(line for line in lines if line)

    def __getitem__(self, index: Any) -> Any:
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __repr__(self) -> str:
        return "\n".join(self._lines)

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {line}" for line in self._lines)
