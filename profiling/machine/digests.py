"""Digests of large files, remembered as long as a file is not written to."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from profiling.files import LARGEST_SETTINGS, digest_file, read_json
from profiling.machine.cache import cache_root

# Smaller files are read each time: that takes no longer than looking them up.
LARGE_BYTES = 2**26
# The clock of a file system is coarse: a file that was written this recently may be written again
# without a new time.
_SETTLED_S = 2.0


def digest_large(path: Path) -> str:
    """The SHA-256 of a file, of a large one from memory where the system says it is unchanged.

    What is remembered belongs to the inode, size and both times of the file. Every write gives a
    new time of change, which no program can set.
    """
    found = path.stat()
    if found.st_size < LARGE_BYTES:
        return digest_file(path)
    identity = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    note = cache_root() / "digests" / f"{key}.json"
    known = _recall(note, identity)
    if known is not None:
        return known
    is_settled = time.time() - found.st_ctime > _SETTLED_S
    digest = digest_file(path)
    if is_settled:
        _remember(note, identity, digest)
    return digest


def _recall(note: Path, identity: list[int]) -> str | None:
    try:
        kept = read_json(note, at_most=LARGEST_SETTINGS)
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("file") != identity:
        return None
    digest = kept.get("sha256")
    return digest if isinstance(digest, str) and len(digest) == 64 else None


def _remember(note: Path, identity: list[int], digest: str) -> None:
    """Without a cache that can be written, the file is read each time, and nothing else changes."""
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".digest-", dir=note.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"file": identity, "sha256": digest}, stream)
        os.replace(name, note)
