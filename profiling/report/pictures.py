"""Find the pictures that a run's samples were asked about, where they can still be reached."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from profiling.records import Record

LARGEST_BYTES = 200_000
KINDS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


def find_pictures(record: Record) -> dict[str, Path]:
    """The picture of each sample id; only small ones, and none from outside the folder."""
    dataset = record.config.get("dataset")
    folder = dataset.get("folder") if isinstance(dataset, dict) else None
    if not isinstance(folder, str) or not (Path(folder) / "samples.json").is_file():
        return {}
    entries = _read_entries(Path(folder) / "samples.json")
    found = {}
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            path = _picture(Path(folder), entry.get("image_path"))
            if path is not None:
                found[str(entry.get("id") or position)] = path
    return found


def _read_entries(index: Path) -> list[Any]:
    # The folder may have changed since the run; a picture is a welcome extra, not a result.
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
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
    """Copy a picture beside the pages, named by its content; its path relative to the pages."""
    content = path.read_bytes()
    name = f"{hashlib.sha256(content).hexdigest()[:16]}{path.suffix.lower()}"
    target = output / "pictures" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return f"pictures/{name}"
