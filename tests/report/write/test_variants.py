"""The page of optimizations: speed-ups by phase, what a variant costs, and what it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiling.report import read_runs
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_run

COMMAND = "python -m profiling.report somewhere"


def page(results: Path, output: Path) -> str | None:
    write_pages(read_runs(results), output, command=COMMAND)
    path = output / "optimizations.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def rows_of(text: str, head: str) -> dict[str, dict[str, str]]:
    """The rows of the first table with a column of that name, by their optimization."""
    lines = text.splitlines()
    (start, *_) = [i for i, line in enumerate(lines) if head in line and line.startswith("|")]
    names = split_row(lines[start])
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        row = dict(zip(names, split_row(line), strict=True))
        rows[row["optimization"]] = row
    return rows


def split_row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = tmp_path_factory.mktemp("results")
    plain = {"wer": 0.25, "latency_s": 0.2, "energy_j": 4.0}
    write_run(results, summary=plain, repeats=20)
    saved = {"latency_s": 0.1, "make_s": 5.0, "make_peak_bytes": 2.0**20, "artifact_bytes": 4096.0}
    write_run(results, optimization="bf16", summary={**plain, **saved, "energy_j": 3.0}, repeats=20)
    lost = {"latency_s": 0.3, "make_s": 5.0, "wer": 0.5, "energy_j": 5.0}
    write_run(results, optimization="fp32", summary={**plain, **lost})
    write_run(results, optimization="flash_attn", status="unsupported", error="needs a GPU")
    written = page(results, tmp_path_factory.mktemp("output"))
    assert written is not None
    return written


def test_each_phase_has_its_speed_up_with_an_interval(text: str) -> None:
    rows = rows_of(text, "speed-up, vision")
    assert list(rows) == ["baseline", "bf16", "fp32"]
    value, low, high = (float(part) for part in cut(rows["bf16"]["speed-up, vision"]))
    assert low < value < high and value == pytest.approx(1.3, rel=0.05)
    assert float(cut(rows["fp32"]["speed-up, prefill"])[0]) == pytest.approx(0.55, rel=0.05)
    assert rows["baseline"]["speed-up, vision"] == "–"


def cut(cell: str) -> list[str]:
    value, _, bounds = cell.partition("× [")
    return [value, *bounds.rstrip("]").split(", ")]


def test_what_a_variant_changes_and_when_it_pays(text: str) -> None:
    rows = rows_of(text, "WER change")
    assert [rows[name]["WER change"] for name in rows] == ["–", "0", "+0.250"]
    assert [rows[name]["on the front"] for name in rows] == ["", "yes", ""]
    assert [rows[name]["breaks even after (batches)"] for name in rows] == ["–", "50", "never"]
    heads = ("time to make (s)", "peak memory to make (MiB)", "files (KiB)")
    assert [rows["bf16"][head] for head in heads] == ["5.00", "1.00", "4.00"]


def test_quality_is_compared_sample_by_sample(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "r", optimization=name) for name in ("baseline", "bf16", "int4")]
    for run, cost in zip(runs, (1.0, 1.0, 1.5), strict=True):
        lines = [json.loads(line) for line in (run / "answers.jsonl").open(encoding="utf-8")]
        told = [line | {"reference_nll": cost + n / 8} for n, line in enumerate(lines)]
        (run / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told))
    text = page(tmp_path / "r", tmp_path / "pages")
    assert text is not None
    head = "nats per token of the reference, change per sample"
    cells = {name: row[head] for name, row in rows_of(text, head).items()}
    assert cells["baseline"] == "–"
    assert cells["bf16"].startswith("+0.000 [")
    assert cells["int4"].startswith("**+0.500 [") and cells["int4"].endswith("]**")


@pytest.mark.parametrize(
    ("latency_s", "low", "high", "said"),
    [
        (0.1, 0.09, 0.11, "Fastest is bf16: 2.00× [1.79, 2.25]"),
        (0.4, 0.39, 0.41, "Slower than the baseline: bf16."),
        (0.19, 0.15, 0.25, "No significant difference: bf16."),
        (0.1, None, None, "No significant difference: bf16."),
        (0.1, 0.0, 0.11, "No significant difference: bf16."),
    ],
)
def test_only_what_the_intervals_show_is_called_faster(
    tmp_path: Path, latency_s: float, low: float | None, high: float | None, said: str
) -> None:
    bounds = {"latency_ci_low_s": low, "latency_ci_high_s": high}
    plain = {"latency_s": 0.2, "latency_ci_low_s": 0.19, "latency_ci_high_s": 0.21}
    write_run(tmp_path / "r", summary=plain)
    write_run(tmp_path / "r", optimization="bf16", summary={"latency_s": latency_s, **bounds})
    text = page(tmp_path / "r", tmp_path / "pages")
    assert text is not None
    opening = text.split("## ")[0]
    assert said in opening
    shown = "No optimization is significantly faster"
    assert (shown in opening) == (not said.startswith("Fastest"))


def test_a_second_run_of_the_same_says_what_the_machine_alone_changed(tmp_path: Path) -> None:
    for name, latency_s in (("baseline", 0.2), ("fp32", 0.25), ("bf16", 0.17), ("int4", 0.1)):
        bounds = {"latency_ci_low_s": latency_s * 0.98, "latency_ci_high_s": latency_s * 1.02}
        write_run(tmp_path / "r", optimization=name, summary={"latency_s": latency_s, **bounds})
    text = page(tmp_path / "r", tmp_path / "pages")
    assert text is not None
    opening = text.split("## ")[0]
    assert "Fastest is int4: 2.00×" in opening and "Slower" not in opening
    assert "No significant difference: bf16." in opening
    assert "Here fp32 is the same model as the baseline and measured 0.800× [" in opening


def test_what_could_not_run_says_why(text: str) -> None:
    assert "needs a GPU" in text and "flash_attn" in text


def test_the_page_is_linked_and_drawn(text: str) -> None:
    assert "figures/optimizations_0.svg" in text


def test_without_a_plain_run_there_is_no_page(tmp_path: Path) -> None:
    for optimization in ("bf16", "int4"):
        write_run(tmp_path / "results", optimization=optimization)
    assert page(tmp_path / "results", tmp_path / "pages") is None


def test_the_name_of_a_model_is_no_path(tmp_path: Path) -> None:
    for optimization in ("baseline", "bf16"):
        write_run(tmp_path / "results", optimization=optimization, model="llava")
    for path in (tmp_path / "results").glob("*/run.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"llava"', '"../x|<b>"'), encoding="utf-8")
    written = page(tmp_path / "results", tmp_path / "pages")
    assert written is not None and "<b>" not in written
    assert not (tmp_path / "x|<b>").exists()
