"""Locks between processes: they end with their holder, say who holds them, and lie in private."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profiling import PROJECT
from profiling.machine import locks
from profiling.machine.locks import LockError, describe_holder, hold, user_lock

HOLDER = f"""
import sys, time
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from profiling.machine.locks import hold
with hold(Path(sys.argv[1]), on_wait=print):
    print("held", flush=True)
    time.sleep(600)
"""


class Busy(Exception):
    """Raised instead of waiting."""


def refuse(holder: str) -> None:
    raise Busy(holder)


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it is ended."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_waiting_process_is_told_which_one_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:
        with pytest.raises(Busy) as busy, hold(path, on_wait=refuse):
            pass
        told = str(busy.value)
        assert told.startswith(f"process {process.pid}, since 2")
        assert told.endswith(f"; to end it: kill {process.pid}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process_and_can_be_waited_for(number: int, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as process:

        def end(holder: str) -> None:
            assert str(process.pid) in holder
            process.send_signal(number)

        with hold(path, on_wait=end):
            assert f"process {os.getpid()}, since" in describe_holder(path)
    assert describe_holder(path) == "another process"
    with hold(path, on_wait=refuse):
        pass


def test_a_holder_on_another_machine_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    with hold(path, on_wait=refuse):
        host = socket.gethostname()
        monkeypatch.setattr(locks.socket, "gethostname", lambda: "elsewhere")
        assert f" on {host}, since" in describe_holder(path)


@pytest.mark.parametrize(
    "note", [b"", b"\xff", b"[]", b'{"pid": "x"}', b'{"pid": null}', b"[" * 5000]
)
def test_a_note_that_cannot_be_read_is_no_error(note: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(note)
    assert describe_holder(tmp_path / "lock") == "another process"


def test_what_is_no_lock_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "folder", tmp_path / "link"):
        with (
            pytest.raises(LockError, match="cannot be locked") as refused,
            hold(path, on_wait=refuse),
        ):
            pass
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "elsewhere").exists()


def test_a_fifo_in_the_place_of_a_note_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    assert describe_holder(tmp_path / "lock") == "another process"


def test_a_reader_that_is_gone_is_no_broken_lock(tmp_path: Path) -> None:
    def complain(_: str) -> None:
        raise BrokenPipeError

    with (
        another_process(tmp_path / "lock"),
        pytest.raises(BrokenPipeError),
        hold(tmp_path / "lock", on_wait=complain),
    ):
        pass


def test_locks_of_a_user_lie_in_a_folder_of_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "vlm-profiling" / "locks"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    path = user_lock("cpu")
    assert path.parent == folder and path.name == f"{socket.gethostname()}-cpu.lock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    user_lock("cpu")
    monkeypatch.setattr(locks.os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(LockError, match="not a folder of this user's own"):
        user_lock("cpu")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "vlm-profiling" / "locks").rmdir()
    (tmp_path / "vlm-profiling" / "locks").symlink_to(tmp_path)
    with pytest.raises(LockError, match="not a folder of this user's own"):
        user_lock("cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="set XDG_CACHE_HOME"):
        user_lock("cpu")
