"""Reads regular files of a bounded size, and nothing else; flushes and removes files.

A FIFO blocks its reader until somebody writes to it, and a device such as /dev/zero has no end.
Every file that a person or another program may have put in place is read through this module, and
a file that a library opens by its name is checked here before.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

# Configurations, manifests and notes; records; indices of samples and of weights.
LARGEST_SETTINGS = 2**24
LARGEST_INDEX = 2**26
LARGEST_TABLE = 2**28
LARGEST_PICTURE = 2**28

# By name, since Pillow also knows formats that start another program, such as EPS.
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class UnfitFile(OSError):
    """A file that is not regular, or too large for what it should hold."""


def open_file(path: Path | str, *, at_most: int | None) -> BufferedReader:
    """Open a regular file of at most so many bytes; raises `UnfitFile` for any other."""
    # Opening a FIFO without O_NONBLOCK would wait for a writer.
    descriptor = os.open(path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        _check(path, found.st_mode, found.st_size, at_most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: Path | str, mode: int, size: int, at_most: int | None) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise UnfitFile(errno.EINVAL, f"not a regular file but {kind}", str(path))
    if at_most is not None and size > at_most:
        reason = f"has {size} bytes, allowed are at most {at_most}"
        raise UnfitFile(errno.EFBIG, reason, str(path))


def require_file(path: Path | str, *, at_most: int | None) -> None:
    """Check a file that somebody else will open by its name."""
    open_file(path, at_most=at_most).close()


def read_bytes(path: Path | str, *, at_most: int) -> bytes:
    with open_file(path, at_most=at_most) as stream:
        # Files of /proc are longer than their size, and others grow while they are read.
        content = stream.read(at_most + 1)
    _check(path, stat.S_IFREG, len(content), at_most)
    return content


def read_text(path: Path | str, *, at_most: int) -> str:
    return read_bytes(path, at_most=at_most).decode("utf-8")


def read_json(path: Path | str, *, at_most: int) -> Any:
    """What a JSON file holds; raises `ValueError` where it is none that can be read."""
    return parse_json(read_text(path, at_most=at_most))


def require_json(path: Path) -> Any:
    """What a script's own settings hold; ends the script where they cannot be read."""
    try:
        return read_json(path, at_most=LARGEST_SETTINGS)
    except OSError as problem:
        sys.exit(f"{path} cannot be read: {problem.strerror}")
    except ValueError as problem:
        sys.exit(f"{path} is not valid JSON: {problem}")


def parse_json(text: str | bytes, **options: Any) -> Any:
    """`json.loads`, with one exception for everything that cannot be read."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def digest_file(path: Path | str) -> str:
    """The SHA-256 of a file, read in pieces: about 0.5 s per GB."""
    with open_file(path, at_most=None) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove(path: Path) -> None:
    """A file, a link or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path | str) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(error: OSError | ValueError) -> str:
    """What is wrong with a file, without the number of the error and without its name."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split())
