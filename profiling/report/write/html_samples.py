"""The samples and pictures of the page, each of them once for all runs."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from profiling.files import read_bytes
from profiling.report.read.pictures import LARGEST_BYTES, SampleContent, find_samples
from profiling.report.read.runs import Run
from profiling.report.say import escape
from profiling.report.say.units import TIMES

LONGEST_ANSWER = 2_000
MOST_PICTURE_BYTES = 8_000_000
_MEDIA_TYPES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".gif": "gif", ".webp": "webp"}


def _count_equal(texts: Sequence[str]) -> list[str]:
    """Each distinct text with its count."""
    counts = Counter(texts)
    return [text if n == 1 else f"{text} ({n}{TIMES})" for text, n in counts.items()]


class SampleStore:
    """The samples and pictures of all runs, each of them once."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self._known_samples: dict[str, int] = {}
        self._known_pictures: dict[Path, int | None] = {}
        self._folders: dict[str, dict[str, SampleContent]] = {}
        self._left_bytes = MOST_PICTURE_BYTES

    def find(self, run: Run) -> dict[str, SampleContent]:
        """The samples of a run; runs with the same folder share them."""
        folder = str(run.record.config.get("dataset"))
        if folder not in self._folders:
            self._folders[folder] = find_samples(run.record, follow=run.follows_folder)
        return self._folders[folder]

    def add(self, line: dict[str, Any], content: SampleContent) -> int:
        references = line.get("references")
        listed = references if isinstance(references, list) else []
        sample = {
            "id": str(line["id"]),
            "question": escape.shorten(content.request or str(line["prompt"]), LONGEST_ANSWER),
            "references": _count_equal([escape.shorten(str(text)) for text in listed]),
            "picture": None if content.picture is None else self._add_picture(content.picture),
        }
        key = escape.embedded_json(sample)
        if key not in self._known_samples:
            self._known_samples[key] = len(self.samples)
            self.samples.append(sample)
        return self._known_samples[key]

    def _add_picture(self, path: Path) -> int | None:
        if path not in self._known_pictures:
            self._known_pictures[path] = self._embed(path)
        return self._known_pictures[path]

    def _embed(self, path: Path) -> int | None:
        content = read_bytes(path, at_most=LARGEST_BYTES)
        if len(content) > self._left_bytes:
            return None
        self._left_bytes -= len(content)
        kind = _MEDIA_TYPES[path.suffix.lower()]
        self.pictures.append(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
        return len(self.pictures) - 1
