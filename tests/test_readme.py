"""The README's own commands work, as they stand there and in the order in which they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
BLOCK = re.compile(r"(<!-- slow -->\n)?```console\n(.*?)```", re.DOTALL)
# What commands write, and must not find from before.
WRITTEN = {"demo", "pretty_results", "results", ".venv", ".git"}


@dataclass(frozen=True)
class Command:
    """A command line of the README."""

    line: str
    is_slow: bool


def read_commands() -> list[Command]:
    return [
        Command(line.removeprefix("$ "), bool(slow))
        for slow, block in BLOCK.findall(README.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like the project, so that what commands write lands beside it."""
    for entry in PROJECT.iterdir():
        if entry.name not in WRITTEN:
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    own = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )


def run_all(commands: list[Command], folder: Path) -> None:
    assert commands
    for command in commands:
        done = run(command.line, folder)
        assert done.returncode == 0, f"$ {command.line}\n{done.stdout}\n{done.stderr}"


def test_quick_commands(workplace: Path) -> None:
    run_all([command for command in read_commands() if not command.is_slow], workplace)
    assert (workplace / "pretty_results" / "index.md").is_file()
    assert (workplace / "results.csv").read_text(encoding="utf-8").startswith("fingerprint,")
    assert (workplace / "results.html").is_file()


@pytest.mark.slow
def test_every_command(workplace: Path) -> None:
    (workplace / ".venv").symlink_to(PROJECT / ".venv")
    run_all(read_commands(), workplace)
    assert (workplace / "demo" / "report" / "index.md").is_file()


def test_every_block_of_commands_is_found() -> None:
    text = README.read_text(encoding="utf-8")
    typed = [line for line in text.splitlines() if line.startswith("$ ")]
    assert [f"$ {command.line}" for command in read_commands()] == typed


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "docs/numbers.md", "docs/records.md", "docs/columns.md"],
)
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_key_is_explained() -> None:
    config = (PROJECT / "conf" / "config.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"^(?:  - (?:optional )?)?([a-z_]+):", config, re.MULTILINE)
    text = README.read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert {"model", "img_size", "strict"} <= set(keys)
    assert [k for k in keys if k not in ("defaults", "hydra") and f"`{k}`" not in rows] == []


def test_every_room_is_on_the_map() -> None:
    names = {path.name for path in (PROJECT / "profiling").iterdir()} - {"py.typed"}
    rooms = {name for name in names if name[0] not in "._"}
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:profiling/)?([a-z_]+(?:\.py)?)/?`", text))
    assert {room for room in rooms if "__" not in room} - named == set()
