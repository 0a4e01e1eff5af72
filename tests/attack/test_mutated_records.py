"""Record folders with anything in them are read or named by every command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiling.merge import LEFT_SOME, MERGED, merge
from profiling.report.command import main as report
from tests.attack.test_hostile_inputs import bounded
from tests.report.synthetic import write_run

FILES = ("run.json", "readings.csv", "answers.jsonl")
MARKUP = "`</code><img src=x onerror=alert(1)>"
HOSTILE_NAMES = (
    MARKUP.replace("/", ""),
    "a\n# heading",
    "=cmd|' !A0",
    "\x1b[31mred",
    "x" * 200,
    "..f",
    "f | g",
    "\udcff\udcfe",
)
HOSTILE_VALUES = st.sampled_from(
    [
        None,
        True,
        -1,
        10**400,
        1e308,
        [],
        {},
        [[]],
        "",
        "\ud800",
        "=1+1",
        MARKUP,
        "a\nb",
        "/dev/zero",
        "../../..",
        "x" * 100_000,
    ]
)
FUZZED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_run(folder, samples=2, repeats=2)
    write_run(folder, samples=2, repeats=2, optimization="bf16")
    return folder


def flip(data: Any, record: Path) -> None:
    path = record / data.draw(st.sampled_from(FILES))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)


def cut(data: Any, record: Path) -> None:
    path = record / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    kept = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(kept + data.draw(st.binary(max_size=20)))


def replace_value(data: Any, record: Path) -> None:
    path = record / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    place = run
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        inner = place[key]
        if not (isinstance(inner, dict) and inner) or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(HOSTILE_VALUES)
    path.write_text(json.dumps(run), encoding="utf-8")


def replace_answer(data: Any, record: Path) -> None:
    path = record / "answers.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    answer = json.loads(first)
    answer[data.draw(st.sampled_from(sorted(answer)))] = data.draw(HOSTILE_VALUES)
    path.write_text(json.dumps(answer) + "\n" + "".join(rest), encoding="utf-8")


def replace_cell(data: Any, record: Path) -> None:
    path = record / "readings.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    row = data.draw(st.integers(0, len(lines) - 1))
    cells = lines[row].split(",")
    cells[data.draw(st.integers(0, len(cells) - 1))] = str(data.draw(HOSTILE_VALUES))
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")


def change_kind(data: Any, record: Path) -> None:
    path = record / data.draw(st.sampled_from((*FILES, "extra")))
    path.unlink(missing_ok=True)
    kind = data.draw(st.sampled_from(["fifo", "folder", "loop", "zero", "large", "missing"]))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("loop", "zero"):
        path.symlink_to(path.name if kind == "loop" else "/dev/zero")
    elif kind == "large":
        with path.open("wb") as stream:
            stream.truncate(2**29)


def nest(data: Any, record: Path) -> None:
    path = record / data.draw(st.sampled_from(["run.json", "answers.jsonl"]))
    path.write_text(data.draw(st.sampled_from(["[", '{"a":'])) * 100_000 + "\n", encoding="utf-8")


def rename(data: Any, record: Path) -> None:
    name = data.draw(st.sampled_from(HOSTILE_NAMES))
    os.rename(record, os.fsencode(record.parent) + b"/" + os.fsencode(name))


MUTATIONS: tuple[Callable[[Any, Path], None], ...] = (
    flip,
    cut,
    replace_value,
    replace_answer,
    replace_cell,
    change_kind,
    nest,
    rename,
)


def mutate(data: Any, sound: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(sound, target / "r")
    spoilt, _ = sorted((target / "r").iterdir())
    data.draw(st.sampled_from(MUTATIONS))(data, spoilt)


def read_with_every_command(folder: Path) -> None:
    results, sound = str(folder / "r"), sorted((folder / "r").iterdir())[-1]
    with bounded():
        for kind in ("csv", "json", "html"):
            assert report([results, f"--{kind}", str(folder / f"o.{kind}")]) == 0
        assert (folder / "o.csv").read_text(encoding="utf-8").count("\n") >= 2
        json.loads((folder / "o.json").read_text(encoding="utf-8"))
        pair = [str(sound), "optimization=baseline"]
        assert report(["compare", *pair, "--results", results]) in (0, 2)
        assert report(["best", "--minimize", "latency_s", "--results", results]) in (0, 1)
        done = merge(folder / "all", [folder / "r"])
        assert (LEFT_SOME if done.problems else MERGED) in (0, 1)
        assert len(done.added) + len(done.problems) >= 1


@settings(parent=FUZZED, max_examples=12)
@given(data=st.data())
def test_some_mutations_are_read_or_named(sound: Path, tmp_path: Path, data: Any) -> None:
    mutate(data, sound, tmp_path / "m")
    read_with_every_command(tmp_path / "m")


@pytest.mark.slow
@settings(parent=FUZZED, max_examples=1000)
@given(data=st.data())
def test_a_thousand_mutations_are_read_or_named(sound: Path, tmp_path: Path, data: Any) -> None:
    mutate(data, sound, tmp_path / "m")
    read_with_every_command(tmp_path / "m")


def test_the_names_of_folders_stay_data(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "r")
    first, _ = sorted((tmp_path / "r").iterdir())
    for name in HOSTILE_NAMES:
        shutil.copytree(first, os.path.join(str(first.parent), name))
    pages = tmp_path / "pages"
    with bounded():
        assert report([str(tmp_path / "r"), "--output", str(pages)]) == 0
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(pages.glob("*.md")))
    assert "<img" not in text and "\n# heading" not in text and "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows and all(line.endswith("|") for line in rows)


def test_a_page_follows_no_record_to_other_folders_unless_asked(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )
    (secret / "a.png").write_bytes(pixel)
    entry = {"id": "sample-0", "image_path": "a.png", "response": "sign number 0"}
    (secret / "samples.json").write_text(json.dumps([entry]), encoding="utf-8")
    record = write_run(tmp_path / "r", samples=1)
    run = json.loads((record / "run.json").read_text(encoding="utf-8"))
    run["config"]["dataset"]["folder"] = str(secret)
    (record / "run.json").write_text(json.dumps(run), encoding="utf-8")
    page = tmp_path / "p.html"
    assert report([str(tmp_path / "r"), "--html", str(page)]) == 0
    assert "data:image/png;base64" not in page.read_text(encoding="utf-8")
    assert report([str(tmp_path / "r"), "--html", str(page), "--pictures"]) == 0
    assert "data:image/png;base64" in page.read_text(encoding="utf-8")


def test_no_cell_is_run_by_a_spreadsheet(tmp_path: Path) -> None:
    for start in "=+-@":
        write_run(tmp_path / "r", dataset=f"{start}cmd|' /C calc'!A0")
    assert report([str(tmp_path / "r"), "--csv", str(tmp_path / "o.csv")]) == 0
    text = (tmp_path / "o.csv").read_text(encoding="utf-8")
    assert all(f"'{start}cmd|" in text for start in "=+-@")
    assert all(f",{start}cmd" not in text and f',"{start}cmd' not in text for start in "=+-@")
