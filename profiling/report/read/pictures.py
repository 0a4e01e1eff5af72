"""Find the pictures and questions of a run's samples, where the files still exist."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling import PROJECT
from profiling.files import LARGEST_INDEX, read_bytes, read_json, require_file
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


def find_samples(record: Record, *, follow: bool = True) -> dict[str, SampleContent]:
    """The samples of a run by id; only small pictures, and none from outside the folder.

    With `follow` the folder may be any that the record names. Without it only the project's own
    are read: otherwise a forged record could have other files shown in a page.
    """
    folder = _find_folder(record, follow)
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


def _find_folder(record: Record, follow: bool) -> Path | None:
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
    allowed = (folder for folder in folders if follow or _is_own(folder))
    return next((folder for folder in allowed if os.path.isfile(folder / INDEX)), None)


def _is_own(folder: Path) -> bool:
    own = os.path.realpath(PROJECT / "datasets")
    return "\0" not in str(folder) and Path(os.path.realpath(folder)).is_relative_to(own)


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
    path = Path(os.path.realpath(folder / written))
    inside = path.is_relative_to(os.path.realpath(folder)) and path.suffix.lower() in KINDS
    return path if inside and _is_small(path) else None


def _is_small(path: Path) -> bool:
    try:
        require_file(path, at_most=LARGEST_BYTES)
    except OSError:
        return False
    return True


def copy_picture(path: Path, output: Path) -> str:
    """Copy a picture beside the pages, named by its content; gives its path relative to them."""
    content = read_bytes(path, at_most=LARGEST_BYTES)
    name = f"{hashlib.sha256(content).hexdigest()[:16]}{path.suffix.lower()}"
    target = output / "pictures" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return f"pictures/{name}"
