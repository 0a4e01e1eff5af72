"""Checkpoints in the hub's cache on this machine: what is there, and whether it is intact.

Each file of a snapshot is a link to a file that is named after its content: a large one after its
SHA-256, a small one after the SHA-1 that git gives it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from profiling.files import LARGEST_INDEX, read_bytes
from profiling.machine.digests import digest_large

_LARGE, _SMALL = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def is_downloaded(name: str, revision: str | None) -> bool:
    return any((folder / "config.json").is_file() for folder in _list_snapshots(name, revision))


def find_damage(name: str, revision: str | None) -> Path | None:
    """A file of the downloaded snapshots whose content is not what its name says, if any."""
    for folder in _list_snapshots(name, revision):
        for path in sorted(folder.rglob("*")):
            stored = path.resolve()
            if path.is_symlink() and stored.is_file() and not _is_intact(stored):
                return stored
    return None


def _list_snapshots(name: str, revision: str | None) -> Iterator[Path]:
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    folder = hub / f"models--{name.replace('/', '--')}"
    yield from sorted((folder / "snapshots").glob(_find_commit(folder, revision) or "*"))


def _find_commit(folder: Path, revision: str | None) -> str | None:
    """The commit that a branch or a tag names in the cache; a commit names itself."""
    if revision is None:
        return None
    named = folder / "refs" / revision
    return named.read_text(encoding="utf-8").strip() if named.is_file() else revision


def _is_intact(stored: Path) -> bool:
    if _LARGE.fullmatch(stored.name):
        return digest_large(stored) == stored.name
    if _SMALL.fullmatch(stored.name):
        content = read_bytes(stored, at_most=LARGEST_INDEX)
        header = b"blob %d\0" % len(content)
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == stored.name
    return True
