"""Property tests: the same examples in `make test` each time, others in `make test-all`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PROPERTY = """
from hypothesis import given, strategies

@given(strategies.integers())
def test_print(value):
    print("drew", value)
"""


def draw_examples(folder: Path, *options: str) -> list[str]:
    return draw(folder, PROPERTY, *options)


def draw(folder: Path, tests: str, *options: str) -> list[str]:
    """What tests print that run with the settings of this suite, in a process of their own."""
    (folder / "conftest.py").write_text((PROJECT / "tests" / "conftest.py").read_text())
    (folder / "test_drawing.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *options, "."],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return [line for line in done.stdout.splitlines() if "drew" in line]


def test_the_fast_suite_repeats_its_examples(tmp_path: Path) -> None:
    assert draw_examples(tmp_path) == draw_examples(tmp_path) != []


@pytest.mark.slow
def test_the_whole_suite_draws_new_examples(tmp_path: Path) -> None:
    random = "--hypothesis-profile=random"
    assert draw_examples(tmp_path, random) != draw_examples(tmp_path, random)


@pytest.mark.parametrize(("target", "is_random"), [("test", False), ("test-all", True)])
def test_each_target_of_make_has_its_profile(target: str, is_random: bool) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert ("--hypothesis-profile=random" in done.stdout) == is_random


DRAWN = """
import random
import numpy
import pytest
import torch

@pytest.mark.parametrize("number", [1, 2, 3])
def test_draw(number):
    print("drew", random.random(), numpy.random.rand(), torch.rand(number)[0].item())
"""


def test_numbers_without_a_seed_do_not_depend_on_the_tests_before(tmp_path: Path) -> None:
    lines = draw(tmp_path, DRAWN)
    assert len(lines) == 3
    assert len({line.partition("drew")[2] for line in lines}) == 1
