"""Runs of a server beside those of the plain engine: answers, cautions, marks and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiling.report import Run, read_runs
from profiling.report.command import main
from profiling.report.say.cautions import list_cautions
from profiling.report.say.marks import SERVED, TINY, mark_weights
from tests.report.synthetic import write_run

TORCH = {"name": "torch", "room": "transformers"}
SERVER = {"name": "endpoint", "room": "endpoint", "url": "http://127.0.0.1:8000/v1", "model": "m"}
ANSWERS = ["a", "b", "c", "d"]
OTHER = ["a", "b", "c", "other"]
BOUNDS = {"ttft_ci_low_s": 0.05, "ttft_s": 0.06, "ttft_ci_high_s": 0.07}


def write_both(results: Path, **summary: Any) -> dict[str, Run]:
    write_run(results, engine=TORCH, samples=4, answers=ANSWERS, summary={"engine": "torch"})
    told = {"engine": "endpoint", **BOUNDS, **summary}
    folder = write_run(results, engine=SERVER, samples=4, answers=OTHER, summary=told)
    ask_without_template(folder)
    found = read_runs(results)
    assert found.problems == []
    return {run["engine"]: run for run in found.runs}


def ask_without_template(folder: Path) -> None:
    """A server renders the prompt itself: what is recorded is the question alone."""
    path = folder / "answers.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    bare = [{**line, "prompt": f"{line['prompt']} alone"} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in bare), encoding="utf-8")


def test_answers_of_engines_are_compared_by_sample(tmp_path: Path) -> None:
    runs = write_both(tmp_path, latency_s=0.1)
    assert runs["endpoint"]["agreement"] == 0.75
    assert runs["endpoint"].baseline == runs["torch"].name
    assert runs["endpoint"]["speedup"] == pytest.approx(runs["torch"]["latency_s"] / 0.1)


def test_prompts_count_within_an_engine(tmp_path: Path) -> None:
    write_run(tmp_path, engine=TORCH, samples=4, answers=ANSWERS)
    other = write_run(tmp_path, engine=TORCH, optimization="bf16", samples=4, answers=ANSWERS)
    ask_without_template(other)
    runs = {run["optimization"]: run for run in read_runs(tmp_path).runs}
    assert runs["bf16"]["agreement"] is None


def test_weights_of_a_server_are_its_own(tmp_path: Path) -> None:
    runs = write_both(tmp_path)
    assert (mark_weights(runs["torch"]), mark_weights(runs["endpoint"])) == (TINY, SERVED)


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({}, None),
        ({"picture_effect": 1.0, "exact_length_share": 1.0, "num_repeated_requests": 0}, None),
        ({"cached_prompt_share": 0.2, "picture_effect": None}, None),
        ({"picture_effect": 0.0}, "the server does not seem to look at the pictures"),
        ({"exact_length_share": 0.25}, "75% of the timed answers have the length that the model"),
        ({"cached_prompt_share": 0.9}, "90% of the prompt tokens came from the server's cache"),
        ({"num_repeated_requests": 3.0}, "3 requests were refused and sent again"),
    ],
)
def test_cautions(tmp_path: Path, summary: dict[str, Any], said: str | None) -> None:
    found = list_cautions(write_both(tmp_path, **summary)["endpoint"])
    assert len(found) == (said is not None)
    assert all(caution.startswith(said or "") for caution in found)


def test_other_engines_have_none(tmp_path: Path) -> None:
    assert list_cautions(write_both(tmp_path, picture_effect=0.0)["torch"]) == []


def test_a_page_shows_the_engines_side_by_side(tmp_path: Path) -> None:
    write_both(tmp_path / "results", picture_effect=0.0, latency_s=0.1)
    assert main([str(tmp_path / "results"), "--output", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "llava.md").read_text(encoding="utf-8")
    assert "## Engine" in page
    rows = [line for line in page.splitlines() if "| endpoint |" in line]
    assert any("60.0 [50.0, 70.0]" in row and "75%" in row for row in rows)
    assert "- With torch one batch takes" in page and "75% of the answers equal" in page
    assert "the server does not seem to look at the pictures" in page
    assert f"- {SERVED} run by a server" in page


def test_a_comparison_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_both(tmp_path, picture_effect=0.0)
    assert main(["compare", "engine=torch", "engine=endpoint", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Caution: B: the server does not seem to look at the pictures." in printed
    assert "75% of the answers are equal." in printed
