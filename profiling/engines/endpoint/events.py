"""Server-sent events, taken apart as their bytes arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END_OF_LINE = re.compile(rb"\r\n|\n|\r(?!$)")


class EventDecoder:
    """Bytes in, the data of whole events out; what is not whole yet is kept."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> Iterator[str]:
        """The data of every event that these bytes complete."""
        # A carriage return at the very end may be half of a line's end.
        *lines, self._rest = _END_OF_LINE.split(self._rest + data)
        for line in lines:
            yield from self._take(line.decode("utf-8", "replace"))

    def finish(self) -> Iterator[str]:
        """The data of a last event that no empty line ended."""
        rest = self._rest.rstrip(b"\r")
        self._rest = b""
        if rest:
            yield from self._take(rest.decode("utf-8", "replace"))
        yield from self._take("")

    def _take(self, line: str) -> Iterator[str]:
        if not line:
            if self._lines:
                yield "\n".join(self._lines)
            self._lines = []
            return
        name, _, value = line.partition(":")
        # An error that occurs after the status was sent is a field of its own in some servers'
        # streams; other fields and comments carry no content.
        if name in ("data", "error"):
            self._lines.append(value.removeprefix(" "))
