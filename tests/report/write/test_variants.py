"""The page of optimizations: speed-ups by phase, what a variant costs, and what it changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from profiling.report import read_runs
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_comparison, write_run

# The text is what is read here; tests of pages look at the figures.
pytestmark = pytest.mark.usefixtures("module_without_figures")
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
    base = write_run(results, summary=plain, repeats=20)
    saved = {"latency_s": 0.1, "make_s": 5.0, "make_peak_bytes": 2.0**20, "artifact_bytes": 4096.0}
    summary = {**plain, **saved, "energy_j": 3.0}
    fast = write_run(results, optimization="bf16", summary=summary, repeats=20)
    write_comparison(base, fast, ratio=2.0, phases={"vision": 1.3, "prefill": 1.25})
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
    assert rows["bf16"]["speed-up, decode"] == "–"
    assert rows["baseline"]["speed-up, vision"] == "–"
    # Two separate runs do not show how much equal runs vary.
    assert re.fullmatch(r"0\.5\d\d×", rows["fp32"]["speed-up, prefill"])
    measured = [row["measured"] for row in rows.values()]
    assert measured == ["–", "paired, 5 launches", "separate runs"]


def cut(cell: str) -> list[str]:
    value, _, bounds = cell.partition("× [")
    return [value, *bounds.rstrip("]").split(", ")]


def test_what_a_variant_changes_and_when_it_pays(text: str) -> None:
    rows = rows_of(text, "WER change")
    assert [rows[name]["WER change"] for name in rows] == ["–", "0", "+0.250"]
    assert [rows[name]["on the front"] for name in rows] == ["", "yes", ""]
    assert [rows[name]["breaks even after (batches)"] for name in rows] == ["–", "50", "–"]
    heads = ("time to make (s)", "peak memory to make (MiB)", "files (KiB)")
    assert [rows["bf16"][head] for head in heads] == ["5.00", "1.00", "4.00"]


def test_quality_is_compared_sample_by_sample(tmp_path: Path) -> None:
    names = ("baseline", "bf16", "int4")
    runs = [write_run(tmp_path / "r", optimization=name, samples=40) for name in names]
    for run, cost in zip(runs, (0.0, 0.0, 0.5), strict=True):
        lines = [json.loads(line) for line in (run / "answers.jsonl").open(encoding="utf-8")]
        told = [
            line | {"reference_nll": 1 + cost * (1 + (-1) ** n / 8)} for n, line in enumerate(lines)
        ]
        (run / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told))
    text = page(tmp_path / "r", tmp_path / "pages")
    assert text is not None
    head = "nats per token of the reference, change per sample"
    cells = {name: row[head] for name, row in rows_of(text, head).items()}
    assert cells["baseline"] == "–"
    assert cells["bf16"] == "0"
    assert cells["int4"].startswith("**+0.500 [") and cells["int4"].endswith("]**")


@pytest.mark.parametrize(
    ("ratio", "reach", "said"),
    [
        (2.0, 1.12, "Fastest is bf16: 2.00× [1.79, 2.24]"),
        (0.5, 1.12, "Slower than the baseline: bf16 0.500× [0.446, 0.560]."),
        (1.05, 1.12, "No difference from the baseline is shown for: bf16 1.05× [0.938, 1.18]."),
        (2.0, None, "Which variant is fastest cannot be said."),
    ],
)
def test_only_what_the_paired_interval_shows_is_called_faster(
    tmp_path: Path, ratio: float, reach: float | None, said: str
) -> None:
    base = write_run(tmp_path / "r")
    write_comparison(base, write_run(tmp_path / "r", optimization="bf16"), ratio=ratio, reach=reach)
    opening = open_page(tmp_path)
    assert said in opening
    assert ("Fastest is" in opening) == said.startswith("Fastest")
    shown = "No optimization is shown to be faster"
    assert (shown in opening) == (said[:6] in ("Slower", "No dif"))


def open_page(folder: Path) -> str:
    text = page(folder / "r", folder / "pages")
    assert text is not None
    return text.split("## ")[0]


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (2.0, "Fastest is bf16: 2.00× [1.96, 2.04]{} the baseline's speed"),
        (0.5, "Slower than the baseline: bf16 0.500× [0.490, 0.510]{}."),
        (1.0, "No difference from the baseline is shown for: bf16 1.00× [0.980, 1.02]{}."),
    ],
)
def test_a_comparison_on_a_busy_machine_is_marked_where_it_is_said(
    tmp_path: Path, ratio: float, said: str, noisy: bool
) -> None:
    base = write_run(tmp_path / "r")
    other = write_run(tmp_path / "r", optimization="bf16")
    write_comparison(base, other, ratio=ratio, noisy=noisy)
    text = page(tmp_path / "r", tmp_path / "pages") or ""
    assert said.format("†" if noisy else "") in text
    assert ("- † noisy: " in text) == noisy


def test_separate_runs_make_no_headline(tmp_path: Path) -> None:
    for name, latency_s in (("baseline", 0.2), ("fp32", 0.25), ("bf16", 0.17), ("int4", 0.01)):
        write_run(tmp_path / "r", optimization=name, summary={"latency_s": latency_s}, repeats=40)
    opening = open_page(tmp_path)
    assert "Which variant is fastest cannot be said." in opening
    assert "astest is" not in opening and "lower than" not in opening
    assert "fp32 is the same model as the baseline and measured 0.800× in a separate" in opening


def test_variants_that_are_not_apart_have_no_fastest(tmp_path: Path) -> None:
    base = write_run(tmp_path / "r")
    for name, ratio in (("bf16", 1.50), ("int4", 1.49), ("compile", 1.2)):
        write_comparison(base, write_run(tmp_path / "r", optimization=name), ratio=ratio)
    opening = open_page(tmp_path)
    assert "Fastest" not in opening
    said = "Several are faster than the baseline, none of them shown to be fastest: bf16: 1.50× ["
    assert said in opening


def test_the_fastest_of_those_measured_in_pairs_is_called_so(tmp_path: Path) -> None:
    base = write_run(tmp_path / "r")
    write_comparison(base, write_run(tmp_path / "r", optimization="bf16"), ratio=1.5)
    write_run(tmp_path / "r", optimization="int4", summary={"latency_s": 0.0001})
    opening = open_page(tmp_path)
    assert "Fastest of those measured in pairs is bf16: 1.50×" in opening
    assert "Not measured in pairs, so that nothing can be said of them: int4." in opening


@pytest.mark.parametrize(
    ("control", "said", "is_believed"),
    [
        (1.01, "measured 1.01× [0.990, 1.03]: the interval holds 1, as it has to.", True),
        (0.80, "measured 0.800× [0.784, 0.816]: the interval should hold 1", False),
    ],
)
def test_equal_models_are_the_control(
    tmp_path: Path, control: float, said: str, is_believed: bool
) -> None:
    base = write_run(tmp_path / "r")
    for name, ratio in (("fp32", control), ("bf16", 1.1), ("int4", 2.0)):
        write_comparison(base, write_run(tmp_path / "r", optimization=name), ratio=ratio)
    opening = open_page(tmp_path)
    assert f"Here fp32 is the same model as the baseline and {said}" in opening
    assert "Fastest is int4: 2.00×" in opening
    assert ("No difference from the baseline is shown for: bf16" in opening) != is_believed


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
