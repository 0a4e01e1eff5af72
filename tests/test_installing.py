"""A wheel of the project works in an empty folder, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.__main__ import COMMANDS, describe
from tests.composing import PROJECT

LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "*.egg-info", "results", "results_*", "notebooks", "__pycache__"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of the project is installed."""
    source = tmp_path_factory.mktemp("source") / "project"
    shutil.copytree(PROJECT, source, ignore=LEFT_OUT)
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(source)], check=True)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(installed / "bin" / "vlm-profile"), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_point_and_its_report(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "run", "profiler=quick", "num_samples=2")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("results/*/run.json"))) == 1
    done = run(installed, tmp_path, "report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pretty_results" / "index.md").is_file()


@pytest.mark.slow
def test_every_command_describes_itself(installed: Path, tmp_path: Path) -> None:
    for name in COMMANDS:
        done = run(installed, tmp_path, name, "--help")
        assert done.returncode == 0 and done.stdout, (name, done.stderr)


@pytest.mark.slow
def test_nothing_of_the_package_is_left_out(installed: Path) -> None:
    """A wheel has every file of profiling/, not the code alone."""
    ours = PROJECT / "profiling"
    files = {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()}
    wanted = {path for path in files if "__pycache__" not in path.parts}
    assert [path for path in sorted(wanted) if not (installed / "profiling" / path).is_file()] == []


ASK = """
PATH="{bin}:$PATH"
eval "$(vlm-profile completion)"
COMP_LINE="{line}" COMP_WORDS=({line}) COMP_CWORD={last}
_vlm_profile
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vlm-profile re", {"report"}),
        ("vlm-profile run model=ll", {"model=llava"}),
        ("vlm-profile run profiler=quick wei", {"weights=", "weights."}),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_keys(
    line: str, offered: set[str], installed: Path, tmp_path: Path
) -> None:
    program = ASK.format(bin=installed / "bin", line=line, last=len(line.split()) - 1)
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    found = set(done.stdout.split())
    assert found and found <= offered, done.stderr


def test_another_command_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "profiling", "raport"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "report" in done.stderr
    assert all(name in describe() for name in COMMANDS)
