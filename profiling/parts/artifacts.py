"""Cached files: written atomically, by one process at a time, and verified before they are used."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from profiling.files import LARGEST_INDEX, digest_file, read_json, remove, sync

_UNFINISHED = ".unfinished"
_LOG = logging.getLogger("profiling")
# What is known of files in this process: their state on the disk, and their digest.
_State = tuple[int, ...]
_digests: dict[Path, tuple[_State, str]] = {}


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder filled by `make` unless it is there as it was made; a failure leaves nothing behind.

    The digests of its files lie beside it. A folder that differs from them is made again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        remove_leftovers(folder.parent)
        if folder.exists():
            _discard_damaged(folder)
        if not folder.exists():
            _make(folder, make)
    return folder


def _note_of(folder: Path) -> Path:
    """The file with the digests of a folder's files."""
    return folder.parent / f".{folder.name}.sha256.json"


def _discard_damaged(folder: Path) -> None:
    damage = find_damage(folder)
    if damage is not None:
        _LOG.warning(f"{folder}: {damage}: the cached files are made again")
        remove(folder)


def find_damage(folder: Path) -> str | None:
    """How a folder that `make_once` made differs from what was made; None where it does not."""
    try:
        known = read_json(_note_of(folder), at_most=LARGEST_INDEX)
    except (OSError, ValueError):
        return "there are no digests to verify it with"
    if not folder.is_dir() or not isinstance(known, dict):
        return "not what was made"
    return find_difference(folder, known, list_files(folder))


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    with unfinished_folder(folder.parent, name=folder.name) as unfinished:
        make(unfinished)
        unfinished.chmod(0o755)
        for path in unfinished.rglob("*"):
            sync(path)
        sync(unfinished)
        write_json(_note_of(folder), digest_all(unfinished, list_files(unfinished)))
        unfinished.rename(folder)
    sync(folder.parent)


def list_files(folder: Path) -> list[Path]:
    """Everything in a folder but the folders in it."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def digest_all(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """The digest of each file, by its name in the folder."""
    return {path.relative_to(folder).as_posix(): _digest_once(path) for path in files}


def find_difference(folder: Path, known: Mapping[str, Any], files: Iterable[Path]) -> str | None:
    """The first file that is not as its digest says, missing or not known; None if all are."""
    names = {path.relative_to(folder).as_posix() for path in files}
    for name in sorted(names ^ known.keys()):
        return f"{name} is {'missing' if name in known else 'not one of its files'}"
    for name in sorted(names):
        try:
            found = _digest_once(folder / name)
        except OSError:
            return f"{name} cannot be read"
        if found != known[name]:
            return f"{name} has other bytes than when it was made"
    return None


def _digest_once(path: Path) -> str:
    """The digest of a file, read again only where the system says that it was written to."""
    found = path.stat()
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = _digests.get(path)
    if known is not None and known[0] == state:
        return known[1]
    digest = digest_file(path)
    _digests[path] = (state, digest)
    return digest


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder: one process at a time writes to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


@contextmanager
def unfinished_folder(parent: Path, *, name: str) -> Iterator[Path]:
    """A folder to make something in, which is gone afterwards unless it was renamed."""
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=_UNFINISHED, dir=parent))
    with _claimed(made):
        try:
            yield made
        finally:
            remove(made)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` atomically when the file is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=_UNFINISHED, dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    with _claimed(unfinished):
        try:
            yield unfinished
            unfinished.chmod(0o644)
            sync(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Hold a lock on something unfinished, so that nobody takes it for a leftover."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left unfinished: nobody holds a lock on it any more."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        with suppress(OSError), _claimed(path):
            remove(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
