"""The README's own commands work, as they stand there and in the order in which they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from profiling.__main__ import COMMANDS
from profiling.points.configuration import read_point
from profiling.points.sweeping import list_values
from tests.composing import compose_config

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
PAGES = sorted(path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("docs/*.md"))
BLOCK = re.compile(r"(?:<!-- (slow|gpu) -->\n)?```console\n(.*?)```", re.DOTALL)
# What commands write, and must not find from before.
WRITTEN = {"demo", "pretty_results", "results", ".venv", ".git"}


@dataclass(frozen=True)
class Command:
    """A command line of the README."""

    line: str
    # "slow", "gpu" or nothing
    kind: str


def read_commands() -> list[Command]:
    return [
        Command(line.removeprefix("$ "), kind)
        for kind, block in BLOCK.findall(README.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like the project, so that what commands write lands beside it.

    It has the command that an installation has, and what a reader is told to bring.
    """
    for entry in PROJECT.iterdir():
        if entry.name not in WRITTEN:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "my_checkpoint").symlink_to(PROJECT / "checkpoints" / "tiny" / "llava")
    (tmp_path / "my_data").symlink_to(PROJECT / "datasets" / "textvqa")
    command = tmp_path / "commands" / "vlm-profile"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m profiling "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    own = (folder / "commands", Path(sys.executable).parent)
    path = os.pathsep.join([*map(str, own), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    return subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )


def run_all(commands: list[Command], folder: Path) -> None:
    assert commands
    for command in commands:
        done = run(command.line, folder)
        assert done.returncode == 0, f"$ {command.line}\n{done.stdout}\n{done.stderr}"


def test_quick_commands(workplace: Path) -> None:
    run_all([command for command in read_commands() if not command.kind], workplace)
    assert (workplace / "pretty_results" / "index.md").is_file()
    assert (workplace / "report.html").is_file()


def has_made_environment() -> bool:
    """Whether make has nothing to install, which it would do for a folder that is removed."""
    made = ["make", "--question", ".venv/.user"]
    return subprocess.run(made, cwd=PROJECT, capture_output=True).returncode == 0


@pytest.mark.slow
def test_every_command(workplace: Path) -> None:
    commands = [command for command in read_commands() if command.kind != "gpu"]
    if not has_made_environment():
        pytest.skip("the environment is not the one that make makes of this checkout")
    (workplace / ".venv").symlink_to(PROJECT / ".venv")
    run_all(commands, workplace)
    assert (workplace / "demo" / "report" / "index.md").is_file()


@pytest.mark.gpu
def test_every_command_for_a_gpu(workplace: Path) -> None:
    run_all([command for command in read_commands() if command.kind == "gpu"], workplace)


FLAGS = {
    "selfcheck": {"--gpu"},
    "report": {"--results", "--html", "--minimize", "--subject-to"},
    "versus": {"--launches"},
    "cost": set[str](),
}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (command.line, command.kind)
        for command in read_commands()
        if command.kind and Path(shlex.split(command.line)[0]).name == "vlm-profile"
    ],
)
def test_commands_that_are_not_run_are_complete(line: str, kind: str) -> None:
    """Each key has a value that it may have, other commands have their flags."""
    _, command, *arguments = shlex.split(line)
    assert command in COMMANDS
    if command != "run":
        flags = {one for one in arguments if one.startswith("-")}
        assert flags <= FLAGS[command]
        return
    values = list_values([one for one in arguments if one != "-m"])
    device = "cpu"
    if kind == "gpu":
        assert values.pop("device") == ["cuda"]
        device = "cuda:0"
    for job in product(*([f"{key}={value}" for value in found] for key, found in values.items())):
        read_point(compose_config(*job), device=device, cores=1)


def test_every_block_of_commands_is_found() -> None:
    text = README.read_text(encoding="utf-8")
    typed = [line for line in text.splitlines() if line.startswith("$ ")]
    assert [f"$ {command.line}" for command in read_commands()] == typed


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "notebooks/README.md", *PAGES],
)
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_page_is_listed() -> None:
    text = README.read_text(encoding="utf-8")
    assert [page for page in PAGES if f"({page})" not in text and f"({page}#" not in text] == []


def test_the_start_stands_in_the_order_of_questions() -> None:
    headings = re.findall(r"^## (.*)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:4] == ["Why not another tool?", "Two commands", "I have a GPU", "Questions"]


def test_commands_of_pages_name_keys_that_there_are() -> None:
    """Each run on a page of docs/ is composed as it would be typed; none is measured."""
    lines = [
        (page, line.removeprefix("$ ").removeprefix("python main.py "))
        for page in ("docs/keys.md", "docs/reports.md")
        for line in (PROJECT / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("python main.py ")
    ]
    assert len(lines) > 3
    for page, line in lines:
        keys = [one for one in shlex.split(line) if one != "-m"]
        if any(key.startswith(("-", "experiment=")) for key in keys):
            continue
        first = [f"{key}={values[0]}" for key, values in list_values(keys).items()]
        assert compose_config(*first), page


def test_every_key_is_explained() -> None:
    config = (PROJECT / "conf" / "config.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"^(?:  - (?:optional )?)?([a-z_]+):", config, re.MULTILINE)
    text = (PROJECT / "docs" / "keys.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert {"model", "img_size", "strict"} <= set(keys)
    assert [k for k in keys if k not in ("defaults", "hydra") and f"`{k}`" not in rows] == []


def test_every_room_is_on_the_map() -> None:
    names = {path.name for path in (PROJECT / "profiling").iterdir()} - {"py.typed"}
    rooms = {name for name in names if name[0] not in "._"}
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:profiling/)?([a-z_]+(?:\.py)?)/?`", text))
    assert {room for room in rooms if "__" not in room} - named == set()
