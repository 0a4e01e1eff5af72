"""Locks between processes. A lock is released when its process ends, however it ends."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from profiling.files import read_json
from profiling.machine.cache import cache_root

_POLL_S = 0.5
_LONGEST_NOTE = 4096


class LockError(RuntimeError):
    """A lock that nobody can hold: one line that names the file and what is wrong with it."""


@contextmanager
def hold(path: Path, *, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock, after waiting for it where another process holds it.

    Before waiting, `on_wait` is called with a description of the holder; it may raise instead.
    """
    lock = FileLock(path)
    with _explained(path):
        is_free = _acquire_at_once(lock)
    if not is_free:
        on_wait(describe_holder(path))
        with _explained(path):
            lock.acquire(poll_interval=_POLL_S)
    try:
        with _explained(path):
            _write_note(path)
        yield
    finally:
        # So that nobody reads it as the note of the next holder.
        with suppress(OSError):
            os.truncate(path, 0)
        lock.release()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        advice = "remove it, or choose another folder"
        raise LockError(f"{path}: cannot be locked: {reason}; {advice}") from None


def _acquire_at_once(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _write_note(path: Path) -> None:
    """Leave in the file who holds the lock, for those who wait for it."""
    note = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(sep=" ", timespec="seconds"),
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(note, stream)


def describe_holder(path: Path) -> str:
    """Which process holds a lock, since when, and the command that ends it."""
    try:
        note = read_json(path, at_most=_LONGEST_NOTE)
        pid, host, since = int(note["pid"]), str(note["host"]), str(note["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    where = "" if host == socket.gethostname() else f" on {host}"
    return f"process {pid}{where}, since {since}; to end it: kill {pid}"


def user_lock(name: str) -> Path:
    """The lock of this name for this user on this machine."""
    return _own_folder(cache_root() / "locks") / f"{socket.gethostname()}-{name}.lock"


def _own_folder(folder: Path) -> Path:
    """A folder that only this user can read and write."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise LockError(f"{folder}: is not a folder of this user's own; remove it")
        folder.chmod(0o700)
    except OSError as error:
        advice = "set XDG_CACHE_HOME to a folder that can be written to"
        raise LockError(f"{folder}: cannot be used for locks: {error.strerror}; {advice}") from None
    return folder
