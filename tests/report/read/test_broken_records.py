"""For any content of a record's files the report reads the record or names it, and never fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiling.report import read_runs
from profiling.report.write.csv_json import to_csv, to_json
from profiling.report.write.html import to_html
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_run

FILES = ("run.json", "readings.csv", "answers.jsonl")
# Each example makes the folder again, which the health check for fixtures does not see.
FUZZED = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_run(folder, samples=2, repeats=2)
    write_run(folder, samples=2, repeats=2, optimization="bf16")
    return folder


def copy(sound: Path, target: Path) -> list[Path]:
    """A fresh copy of the sound records; the first one is to be spoilt."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(sound, target)
    return sorted(target.iterdir())


def read_everything(results: Path, spoilt: Path, kept: Path) -> None:
    """The sound record is there; the spoilt one is either read or named."""
    found = read_runs(results)
    names = {run.name for run in found.runs}
    assert kept.name in names
    assert (spoilt.name in names) != any(spoilt.name in problem for problem in found.problems)
    assert to_csv(found.runs).count("\n") >= 2
    json.loads(to_json(found.runs))
    to_html(found)


@FUZZED
@given(name=st.sampled_from(FILES), share=st.floats(0, 1), junk=st.binary(max_size=12))
def test_a_file_cut_anywhere_and_continued_with_junk(
    sound: Path, tmp_path: Path, name: str, share: float, junk: bytes
) -> None:
    spoilt, kept = copy(sound, tmp_path / "r")
    content = (spoilt / name).read_bytes()
    (spoilt / name).write_bytes(content[: int(share * len(content))] + junk)
    read_everything(tmp_path / "r", spoilt, kept)


@FUZZED
@given(data=st.data(), value=JSON)
def test_any_value_anywhere_in_a_run(sound: Path, tmp_path: Path, data: Any, value: Any) -> None:
    spoilt, kept = copy(sound, tmp_path / "r")
    run = json.loads((spoilt / "run.json").read_text(encoding="utf-8"))
    place = run
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    (spoilt / "run.json").write_text(json.dumps(run), encoding="utf-8")
    read_everything(tmp_path / "r", spoilt, kept)


@FUZZED
@given(key=st.sampled_from(["id", "prompt", "answer", "references", "wer"]), value=JSON)
def test_any_value_anywhere_in_an_answer(sound: Path, tmp_path: Path, key: str, value: Any) -> None:
    spoilt, kept = copy(sound, tmp_path / "r")
    path = spoilt / "answers.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    line = json.dumps({**json.loads(first), key: value}) + "\n"
    path.write_text(line + "".join(rest), encoding="utf-8")
    read_everything(tmp_path / "r", spoilt, kept)


@settings(parent=FUZZED, max_examples=4)
@given(answer=st.text(min_size=1), error=st.text(), name=st.text(min_size=1, max_size=20))
def test_any_text_in_a_page(tmp_path: Path, answer: str, error: str, name: str) -> None:
    shutil.rmtree(tmp_path / "r", ignore_errors=True)
    write_run(tmp_path / "r", samples=1, repeats=2, answers=[answer], dataset=name)
    write_run(tmp_path / "r", status="failed", error=error)
    index = write_pages(read_runs(tmp_path / "r"), tmp_path / "o", command="x")
    text = (index.parent / "llava.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_a_lone_surrogate_is_refused(sound: Path, tmp_path: Path) -> None:
    spoilt, kept = copy(sound, tmp_path / "r")
    text = (spoilt / "run.json").read_text(encoding="utf-8")
    (spoilt / "run.json").write_text(text.replace('"llava"', '"\\ud800"'), encoding="utf-8")
    read_everything(tmp_path / "r", spoilt, kept)
    assert kept.name == read_runs(tmp_path / "r").runs[0].name


@pytest.mark.usefixtures("without_figures")
def test_ten_megabytes_of_answer_are_read_and_cut(tmp_path: Path) -> None:
    write_run(tmp_path / "r", samples=1, answers=["word " * 2_000_000])
    index = write_pages(read_runs(tmp_path / "r"), tmp_path / "o", command="x")
    assert (index.parent / "llava.md").stat().st_size < 50_000


@pytest.mark.usefixtures("without_figures")
def test_a_run_whose_processor_chose_the_size_is_no_broken_one(tmp_path: Path) -> None:
    for optimization in ("baseline", "bf16"):
        folder = write_run(tmp_path / "r", samples=2, repeats=2, optimization=optimization)
        path = folder / "run.json"
        run = json.loads(path.read_text(encoding="utf-8"))
        run["config"]["img_size"] = run["summary"]["img_size"] = None
        path.write_text(json.dumps(run), encoding="utf-8")
    write_run(tmp_path / "r", samples=2, repeats=2, img_size=112)
    runs = read_runs(tmp_path / "r")
    assert len(runs.runs) == 3
    index = write_pages(runs, tmp_path / "pages", command="x")
    pages = [page.read_text(encoding="utf-8") for page in index.parent.glob("*.md")]
    assert any("as it is" in page for page in pages)
    to_html(runs)
    assert to_csv(runs.runs)
