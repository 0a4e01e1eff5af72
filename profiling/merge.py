"""Merges results folders of several machines: python -m profiling.merge INTO FROM [FROM ...]."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from profiling.arguments import WRONG_CONFIGURATION, Parser, print_anything
from profiling.errors import shorten
from profiling.files import describe, digest_file, remove, sync
from profiling.machine.locks import LockError, hold
from profiling.records import COMPARISONS, read, read_comparisons

MERGED, LEFT_SOME = 0, 1
_LOCKS = ".locks"
# Begins with a dot, so that an unfinished copy is not read as a record.
_PARTIAL = ".merging-"
# What no other record of the same command could be written after.
_END_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The records that were copied, those that were there already, and what was left out."""

    added: list[Path] = field(default_factory=list)
    beside: list[Path] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def merge(into: Path, sources: Sequence[Path]) -> Merge:
    """Copy every record that `into` lacks: equal ones once, different ones side by side."""
    (into / _LOCKS).mkdir(parents=True, exist_ok=True)
    done = Merge()
    with hold(into / _LOCKS / "merge", on_wait=_say_wait):
        # While the lock is held, these can only be left over from a merge that was killed.
        for partial in [*into.glob(f"{_PARTIAL}*"), *(into / COMPARISONS).glob(f"{_PARTIAL}*")]:
            remove(partial)
        for source in sources:
            _merge_one(source, into, done)
    return done


def _merge_one(source: Path, into: Path, done: Merge) -> None:
    collection, compared = read(source), read_comparisons(source)
    done.problems.extend([*collection.problems, *compared.problems])
    for record in collection.records:
        _add(_Entry(folder=record.folder, name=record.fingerprint), into, done, into)
    for comparison in compared.comparisons:
        entry = _Entry(folder=comparison.folder, name=comparison.address)
        _add(entry, into, done, into / COMPARISONS)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A record or a comparison, and the name that it has where it is the only one."""

    folder: Path
    name: str


def _say_wait(holder: str) -> None:
    print(f"waiting for another command ({holder})", file=sys.stderr, flush=True)


def _add(entry: _Entry, into: Path, done: Merge, target: Path) -> None:
    if entry.name.startswith("."):
        done.problems.append(f"{entry.folder}: fingerprint {entry.name!r} is not one")
        return
    try:
        # The lock that is held while this point, or this comparison, is measured.
        with hold(into / _LOCKS / entry.name, on_wait=_say_wait):
            _add_locked(entry, target, done)
    except LockError as error:
        done.problems.append(f"{entry.folder}: {error}")
    except OSError as error:
        if error.errno in _END_ALL:
            raise
        done.problems.append(f"{entry.folder}: cannot be copied: {_reason(error)}")


def _reason(error: OSError) -> str:
    """What is wrong with which file. `shutil.Error` has a list of them instead of a message."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        (_, _, why), *_ = error.args[0]
        return shorten(why)
    name = f"{shorten(error.filename)}: " if error.filename else ""
    return f"{name}{describe(error)}"


def _add_locked(entry: _Entry, target: Path, done: Merge) -> None:
    content = digest(entry.folder)
    target.mkdir(exist_ok=True)
    for place in _places(target, entry.name):
        if not os.path.lexists(place):
            break
        if digest(place) == content:
            done.there.append(entry.folder)
            return
    if _copy(entry.folder, place, content):
        (done.added if place.name == entry.name else done.beside).append(place)
    else:
        done.problems.append(f"{entry.folder}: changed while it was copied; merge again")


def _places(into: Path, fingerprint: str) -> Iterator[Path]:
    """The folders for records of one point, in the order in which they are filled."""
    yield into / fingerprint
    yield from (into / f"{fingerprint}-{number}" for number in count(2))


def _copy(folder: Path, place: Path, content: str) -> bool:
    partial = place.with_name(f"{_PARTIAL}{place.name}")
    try:
        shutil.copytree(folder, partial, symlinks=True)
        if digest(partial) != content:
            return False
        _sync(partial)
        partial.rename(place)
        sync(place.parent)
        return True
    finally:
        remove(partial)


def digest(folder: Path) -> str:
    """A digest of all that a folder holds: equal for equal content, wherever the folder is.

    Raises `UnfitFile` for a FIFO or a device among it.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            part = f"link {path.readlink()}"
        elif path.is_dir():
            continue
        else:
            part = digest_file(path)
        total.update(os.fsencode(f"{path.relative_to(folder).as_posix()}\0{part}\0"))
    return total.hexdigest()


def _sync(folder: Path) -> None:
    """Write everything to the disk before the folder gets its name."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            sync(path)


def main() -> int:
    print_anything()
    parser = Parser(prog="python -m profiling.merge", description=__doc__)
    parser.add_argument("into", type=Path, metavar="INTO", help="made if it is not there")
    parser.add_argument("sources", type=Path, nargs="+", metavar="FROM", help="left as they are")
    given = parser.parse_args()
    refusal = _refuse(given.into, given.sources)
    if refusal:
        print(refusal, file=sys.stderr)
        return WRONG_CONFIGURATION
    try:
        done = merge(given.into, given.sources)
    except LockError as error:
        print(error, file=sys.stderr)
        return LEFT_SOME
    except OSError as error:
        place = shorten(error.filename or given.into)
        print(f"{place}: {error.strerror}; nothing is lost", file=sys.stderr)
        return LEFT_SOME
    return _tell(given.into, done)


def _refuse(into: Path, sources: Sequence[Path]) -> str | None:
    # Path.exists and Path.is_dir raise an error for a name that is too long.
    exists = os.path.exists(into)
    if exists and not os.path.isdir(into):
        return f"INTO={into}: is not a folder; allowed is one, or a name for a new one"
    for source in sources:
        if not os.path.isdir(source):
            return f"FROM={shorten(source)}: no such folder; allowed is a results folder"
        if exists and source.samefile(into):
            return f"FROM={source}: is INTO itself; allowed is another results folder"
    return None


def _tell(into: Path, done: Merge) -> int:
    for problem in done.problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(
        f"{into}: {len(done.added)} added, {len(done.beside)} more beside another record of the"
        f" same point, {len(done.there)} there already, {len(done.problems)} left out"
    )
    return LEFT_SOME if done.problems else MERGED


if __name__ == "__main__":
    sys.exit(main())
