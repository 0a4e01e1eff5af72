"""Whatever is killed at whatever moment: nothing torn is read, nothing finished is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.killing import (
    Toll,
    kill_exports,
    kill_merges,
    kill_sweeps,
    kill_workers,
    kill_writers,
)
from tests.test_merge import write

SEED = 19


def require_clean(toll: Toll) -> None:
    print(toll)
    assert toll.is_clean, toll
    assert toll.kills > 0


def make_records(folder: Path, count: int) -> Path:
    for number in range(count):
        write(folder, f"f{number}", text="a" * 50_000)
    return folder


def test_some_writers_are_killed(tmp_path: Path) -> None:
    require_clean(kill_writers(tmp_path, count=3, seed=SEED))


def test_some_exports_are_killed(tmp_path: Path) -> None:
    require_clean(kill_exports(tmp_path, count=4, seed=SEED))


def test_some_merges_are_killed(tmp_path: Path) -> None:
    source = make_records(tmp_path / "from", 20)
    require_clean(kill_merges(tmp_path, source, count=4, seed=SEED))


@pytest.mark.slow
def test_many_sweeps_are_killed(tmp_path: Path) -> None:
    require_clean(kill_sweeps(tmp_path, count=80, seed=SEED + 1))


@pytest.mark.slow
def test_many_writers_are_killed(tmp_path: Path) -> None:
    require_clean(kill_writers(tmp_path, count=40, seed=SEED + 5))


@pytest.mark.slow
def test_many_workers_are_killed(tmp_path: Path) -> None:
    require_clean(kill_workers(tmp_path, count=30, seed=SEED + 2))


@pytest.mark.slow
def test_many_exports_are_killed(tmp_path: Path) -> None:
    require_clean(kill_exports(tmp_path, count=90, seed=SEED + 3))


@pytest.mark.slow
def test_many_merges_are_killed(tmp_path: Path) -> None:
    source = make_records(tmp_path / "from", 200)
    require_clean(kill_merges(tmp_path, source, count=60, seed=SEED + 4))
