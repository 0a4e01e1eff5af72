"""The page of engines: what is measured, and what is said only where an interval shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiling.metrics import TOTAL
from profiling.report import read_runs
from profiling.report.say.engines import Standing, say_engine
from profiling.report.write.pages import write_pages
from profiling.statistics.ratios import Ratio
from tests.report.synthetic import write_comparison, write_run

pytestmark = pytest.mark.usefixtures("module_without_figures")
PHASES = (TOTAL, "vision", "decode")


def run_of(results: Path, name: str, *, model: str = "llava", **given: Any) -> Path:
    engine = {"name": name, "room": "transformers", **given.pop("settings", {})}
    summary = {"engine": name, **given.pop("summary", {})}
    return write_run(results, model=model, engine=engine, summary=summary, **given)


def page(results: Path, output: Path) -> str | None:
    write_pages(read_runs(results), output, command="report")
    path = output / "engines.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = tmp_path_factory.mktemp("results")
    for model in ("llava", "fuyu"):
        plain = run_of(results, "torch", model=model, summary={"load_s": 1.0, "ttft_s": 0.25})
        made = {"make_s": 4.0, "compile_s": 2.0, "load_s": 1.5, "ttft_s": 0.5}
        logits = {"divergence": 2.0, "divergence_verdict": "tie", "logit_error": 0.001}
        quick = run_of(results, "quick_one", model=model, summary={**made, **logits})
        write_comparison(
            plain, quick, ratio=1.01, reach=1.03, phases={"decode": 2.0, "vision": 0.5}
        )
        off = {"divergence": 500.0, "divergence_verdict": "error"}
        exact = {"precision": "int8"}
        run_of(results, "quick_one", model=model, settings=exact, summary=off, slower=0.1)
    run_of(results, "absent", status="unsupported", error="absent is not installed: pip install x")
    found = page(results, tmp_path_factory.mktemp("output"))
    assert found is not None
    return found


def line_of(text: str, start: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found


def test_what_an_interval_shows_is_said(text: str) -> None:
    said = line_of(text, "- **quick_one**")
    assert "faster in decode" in said and "slower in vision" in said
    assert "not shown to differ in the whole answer" in said
    assert "tie (2)" in said


def test_without_a_paired_comparison_nothing_is_said_of_speed(text: str) -> None:
    said = line_of(text, "- **quick_one, precision=int8**")
    assert "nothing is said of its speed" in said and "faster" not in said
    assert "error (2): more than rounding explains" in said


def test_the_time_to_the_first_answer_adds_up(text: str) -> None:
    lines = text.splitlines()
    head = next(at for at, line in enumerate(lines) if "time to the first answer (s)" in line)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[head + 2 :]]
    assert [row[1] for row in rows[:3]] == ["torch", "quick_one", "quick_one, precision=int8"]
    assert [float(row[-1]) for row in rows[:2]] == [1.25, 8.0]


def test_what_did_not_run_has_its_reason(text: str) -> None:
    assert "absent is not installed: pip install x" in text


def test_without_torch_there_is_no_page(tmp_path: Path) -> None:
    run_of(tmp_path / "results", "quick_one")
    assert page(tmp_path / "results", tmp_path / "output") is None


def ratio(value: float, low: float | None, high: float | None) -> Ratio:
    return Ratio(value=value, low=low, high=high, confidence=0.95)


@pytest.mark.parametrize("end", [1.0, 1.2])
def test_an_interval_that_holds_one_is_no_claim(end: float) -> None:
    standing = Standing(speeds={"decode": ratio(1.1, 0.99, end)}, verdict=None)
    said = say_engine([standing], PHASES)
    assert "faster" not in said and "slower" not in said
    assert said == "not shown to differ in decode; its logits were not compared"


def test_how_many_settings_show_it_is_said() -> None:
    shown = Standing(speeds={"decode": ratio(2.0, 1.5, 2.5)}, verdict="rounding")
    open_ = Standing(speeds={"decode": ratio(1.0, 0.5, 1.5)}, verdict="rounding")
    said = say_engine([shown, open_], PHASES)
    assert "at 1 of 2 settings" in said
    assert "rounding (2)" in said


def test_a_ratio_without_an_interval_is_no_claim() -> None:
    standing = Standing(speeds={TOTAL: ratio(3.0, None, None)}, verdict="rounding")
    assert "nothing is said of its speed" in say_engine([standing], PHASES)


def test_a_table_without_a_value_is_left_out(tmp_path: Path) -> None:
    """Answers of random values mean nothing, and no row of them is written."""
    nothing = {"agreement": None, "wer": None, "reference_nll": None}
    for name in ("torch", "quick_one"):
        run_of(tmp_path / "results", name, weights="random", summary=nothing)
    found = page(tmp_path / "results", tmp_path / "output")
    assert found is not None and "random weights" in found
    assert "| run | engine |\n" not in found
