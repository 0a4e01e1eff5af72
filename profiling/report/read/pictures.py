"""Find the pictures and questions of a run's samples, where the files still exist."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling import PROJECT
from profiling.files import LARGEST_INDEX, read_bytes, read_json
from profiling.records import Record

INDEX = "samples.json"
LARGEST_BYTES = 200_000
KINDS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


@dataclass(frozen=True, kw_only=True)
class SampleContent:
    """What a page shows of a sample: its picture, and its question without the template."""

    picture: Path | None
    request: str | None
    references: tuple[str, ...]


NOT_FOUND = SampleContent(picture=None, request=None, references=())


def match(samples: Mapping[str, SampleContent], line: Mapping[str, Any]) -> SampleContent:
    """The sample of an answer, if the folder still has the sample that was answered."""
    found = samples.get(str(line["id"]), NOT_FOUND)
    references = line.get("references")
    same = isinstance(references, list) and tuple(map(str, references)) == found.references
    return found if same else NOT_FOUND


def find_samples(record: Record) -> dict[str, SampleContent]:
    """The samples of a run by id; only small pictures, and none from outside the folder."""
    folder = _find_folder(record)
    if folder is None:
        return {}
    entries = _read_entries(folder / INDEX)
    return {
        str(entry.get("id") or position): SampleContent(
            picture=_picture(folder, entry.get("image_path")),
            request=entry["request"] if isinstance(entry.get("request"), str) else None,
            references=_references(entry.get("response")),
        )
        for position, entry in enumerate(entries)
        if isinstance(entry, dict)
    }


def _find_folder(record: Record) -> Path | None:
    """The run's sample folder; for a run of another machine, the project's own of that name.

    An equal name does not mean equal samples: `match` checks each one.
    """
    dataset = record.config.get("dataset")
    if not isinstance(dataset, dict):
        return None
    written, name = dataset.get("folder"), dataset.get("name")
    folders = [PROJECT / written] if isinstance(written, str) else []
    if isinstance(name, str):
        folders.append(PROJECT / "datasets" / name)
    return next((folder for folder in folders if (folder / INDEX).is_file()), None)


def _references(response: object) -> tuple[str, ...]:
    listed = response if isinstance(response, list) else [response]
    return tuple(map(str, listed))


def _read_entries(index: Path) -> list[Any]:
    # The folder may have changed since the run, and a picture is no result: none is shown then.
    try:
        entries = read_json(index, at_most=LARGEST_INDEX)
    except (OSError, ValueError):
        return []
    return entries if isinstance(entries, list) else []


def _picture(folder: Path, written: object) -> Path | None:
    if not isinstance(written, str) or not written or "\0" in written:
        return None
    path = (folder / written).resolve()
    inside = path.is_relative_to(folder.resolve()) and path.suffix.lower() in KINDS
    return path if inside and path.is_file() and path.stat().st_size <= LARGEST_BYTES else None


def copy_picture(path: Path, output: Path) -> str:
    """Copy a picture beside the pages, named by its content; gives its path relative to them."""
    content = read_bytes(path, at_most=LARGEST_BYTES)
    name = f"{hashlib.sha256(content).hexdigest()[:16]}{path.suffix.lower()}"
    target = output / "pictures" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return f"pictures/{name}"
