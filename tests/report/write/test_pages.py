"""The markdown pages: their sentences, their marks, and that they are reproducible."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from profiling.metrics import PHASES
from profiling.report import read_runs
from profiling.report.draw.palette import COLOURS, HATCHES
from profiling.report.say.marks import (
    ESTIMATED,
    NOISY,
    RANDOM,
    TINY,
)
from profiling.report.write.pages import write_pages
from tests.report.synthetic import MACHINE, write_comparison, write_run, write_timed

COMMAND = "python -m profiling.report somewhere"


def write(results: Path, output: Path) -> dict[str, str]:
    """The text of every page by its stem."""
    write_pages(read_runs(results), output, command=COMMAND)
    return {path.stem: path.read_text(encoding="utf-8") for path in output.glob("*.md")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    for model in ("llava", "fuyu"):
        for img_size in (112, 224, 336, 448, 560):
            write_run(results, model=model, img_size=img_size)
        (base,) = (path for path in results.glob("*/run.json") if is_baseline(path, model))
        for optimization, ratio in (("bf16", 1.3), ("int4", 0.8)):
            noisy = optimization == "int4"
            other = write_run(results, model=model, optimization=optimization, noisy=noisy)
            write_comparison(base.parent, other, ratio=ratio)
        write_run(
            results,
            model=model,
            optimization="compile",
            status="unsupported",
            error="no C compiler | <b>none</b>",
        )
    return results


def is_baseline(path: Path, model: str) -> bool:
    summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    wanted = (model, "baseline", 224)
    return (summary["model"], summary["optimization"], summary["img_size"]) == wanted


@pytest.fixture(scope="module")
def written(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    write(swept, output)
    return output


@pytest.fixture(scope="module")
def pages(written: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in written.glob("*.md")}


def test_there_is_a_page_a_model_and_one_that_compares(pages: dict[str, str]) -> None:
    assert set(pages) == {"llava", "fuyu", "index", "optimizations"}
    assert "[llava](llava.md)" in pages["index"]


def test_a_page_opens_with_the_answer(pages: dict[str, str]) -> None:
    opening = pages["llava"].split("## ")[0]
    assert re.search(r"\*\*Decode takes \d+% of the time\*\*", opening)
    assert re.search(r"From 112 px to 560 px one batch takes [\d.]+. the time \(", opening)
    assert re.search(r"vision is \d+% of the increase", opening)
    assert "Fastest is bf16: 1.3" in opening
    assert "Slower than the baseline: int4" in opening
    assert "Which model is fastest cannot be said." in pages["index"]
    assert "is the fastest" not in pages["index"]


def test_growth_is_fitted_per_phase(pages: dict[str, str]) -> None:
    law = re.search(r"\| vision \| .* \| tokens\^(\d\.\d+) \[", pages["llava"])
    assert law is not None
    assert float(law[1]) == pytest.approx(1.3, abs=0.1)


def test_every_page_names_its_command(pages: dict[str, str]) -> None:
    assert all(f"`{COMMAND}`" in text for text in pages.values())


def test_what_did_not_complete_is_there_with_its_error(pages: dict[str, str]) -> None:
    assert pages["llava"].count("unsupported") >= 2
    assert "no C compiler &#124; &#60;b&#62;none&#60;/b&#62;" in pages["llava"]


def test_a_failed_repetition_does_not_empty_the_page(tmp_path: Path) -> None:
    write_run(tmp_path / "r", model="llava", started_at="2026-01-01")
    after = {"started_at": "2026-01-02", "suffix": "-2"}
    write_run(tmp_path / "r", model="llava", status="failed", error="it broke", **after)
    for text in write(tmp_path / "r", tmp_path / "pages").values():
        assert " of the time**" in text
        assert "it broke" in text and "No run of this model completed" not in text
        assert "2 runs: 1 completed, 1 failed." in text


def test_rows_have_as_many_cells_as_their_head(pages: dict[str, str]) -> None:
    for text in pages.values():
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_values_carry_their_marks(pages: dict[str, str]) -> None:
    rows = [line for line in pages["llava"].splitlines() if line.startswith("| `")]
    assert rows
    assert all(re.match(rf"\| `[^`]+`{TINY} \|", row) for row in rows)
    noisy = [row for row in rows if "| int4 |" in row]
    assert sum(bool(re.search(rf"\d\]{NOISY} \|", row)) for row in noisy) >= 2
    # The speed-up was measured in pairs, on a quiet machine.
    assert any(re.search(r"0\.800× \[0\.784×, 0\.816×\] \|", row) for row in noisy)
    assert f"| {ESTIMATED} " in pages["llava"]
    for mark in (TINY, NOISY, ESTIMATED):
        assert f"\n- {mark} " in pages["llava"]
    assert f"\n- {RANDOM} " not in pages["llava"]


def test_figures_are_there_in_both_kinds(written: Path, pages: dict[str, str]) -> None:
    shown = {path for text in pages.values() for path in re.findall(r"\]\((figures/[^)]+)\)", text)}
    assert {Path(path).suffix for path in shown} == {".svg", ".png"}
    assert all((written / path).stat().st_size > 1000 for path in shown)
    drawn = {f"figures/{path.name}" for path in (written / "figures").iterdir()}
    assert drawn == shown


def read_sizes(folder: Path, **summary: float) -> tuple[str, str, Path]:
    """The model's page and the comparison of runs that have these columns, and the figures."""
    for img_size in (112, 168, 224):
        write_run(folder / "results", model="llava", img_size=img_size, summary=summary)
    pages = write(folder / "results", folder / "output")
    return pages["llava"], pages["index"], folder / "output" / "figures"


def count_whiskers(svg: Path) -> int:
    """The upright lines that an interval is drawn as."""
    return svg.read_text(encoding="utf-8").count('id="LineCollection_')


def test_quality_against_size_is_a_curve_with_intervals(tmp_path: Path) -> None:
    bounds = {"wer": 0.3, "wer_ci_low": 0.2, "wer_ci_high": 0.9}
    page, index, figures = read_sizes(tmp_path, **bounds)
    size = page.partition("## Image size")[2].partition("\n## ")[0]
    assert "figures/llava_img_size_wer.svg" in size
    assert "95% intervals over samples" in size
    assert count_whiskers(figures / "llava_img_size_wer.svg") == 3
    assert "figures/index_img_size_wer.svg" in index
    assert count_whiskers(figures / "index_img_size_wer.svg") == 3
    assert "0.300 [0.200, 0.900]" in size


@pytest.mark.slow
def test_quality_without_intervals_is_a_curve_all_the_same(tmp_path: Path) -> None:
    _, _, figures = read_sizes(tmp_path, wer=0.3)
    assert count_whiskers(figures / "llava_img_size_wer.svg") == 0


@pytest.mark.usefixtures("without_figures")
def test_the_reference_s_likelihood_has_its_curve_where_it_is_known(tmp_path: Path) -> None:
    page, _, _ = read_sizes(tmp_path / "with", reference_nll=1.5)
    assert "figures/llava_img_size_reference_nll.svg" in page
    page, _, _ = read_sizes(tmp_path / "without")
    assert "reference_nll.svg" not in page


def read_bytes(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_over_an_output_of_before(
    swept: Path, written: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept, tmp_path / "copy")
    shutil.copytree(written, tmp_path / "again")
    expected = read_bytes(written)
    assert len(expected) > 10
    for name, content in expected.items():
        (tmp_path / "again" / name).write_bytes(content[::-1])
    write(tmp_path / "copy", tmp_path / "again")
    assert read_bytes(tmp_path / "again") == expected


def test_every_phase_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(HATCHES) == set(PHASES)
    assert len(set(COLOURS.values())) == len(PHASES)


def test_figures_take_colours_from_the_palette(written: Path) -> None:
    for name in ("llava_img_size", "fuyu_optimization", "index_models"):
        svg = (written / "figures" / f"{name}.svg").read_text(encoding="utf-8").lower()
        for phase in ("vision", "prefill", "decode"):
            assert COLOURS[phase].lower() in svg
        assert "prefers-color-scheme: dark" in svg


@pytest.mark.usefixtures("without_figures")
def test_answers_are_data(tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>", "a | b\n# c", "`x` ![y](z)", "\u202egnirts"] * 2
    write_run(tmp_path / "r", answers=hostile)
    text = write(tmp_path / "r", tmp_path / "o")["llava"]
    assert "alert" in text
    assert "<script" not in text and "![y]" not in text and "\u202e" not in text
    assert "a &#124; b↵&#35; c" in text


@pytest.mark.usefixtures("without_figures")
def test_examples_show_pictures_that_can_be_reached(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    picture = b"\x89PNG not really"
    (data / "one.png").write_bytes(picture)
    (tmp_path / "secret.png").write_bytes(b"secret")
    entries: list[Any] = [
        {"id": "sample-0", "image_path": "one.png", "response": "sign number 0"},
        {"id": "sample-1", "image_path": "../secret.png", "response": ["sign number 1"]},
        {"id": "sample-2", "image_path": "gone.png", "response": "sign number 2"},
        {"id": "sample-3", "image_path": "one.png", "response": "drawn anew since then"},
    ]
    (data / "samples.json").write_text(json.dumps(entries), encoding="utf-8")
    folder = write_run(tmp_path / "r")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    run["config"]["dataset"]["folder"] = str(data)
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    text = write(tmp_path / "r", tmp_path / "o")["llava"]
    shown = re.findall(r"!\[\]\((pictures/[^)]+)\)", text)
    assert len(shown) == 1
    assert (tmp_path / "o" / shown[0]).read_bytes() == picture


@pytest.mark.usefixtures("without_figures")
def test_random_weights_are_marked(tmp_path: Path) -> None:
    write_run(tmp_path / "r", weights="random")
    text = write(tmp_path / "r", tmp_path / "o")["llava"]
    assert f"`{RANDOM} |" in text
    assert "answers are meaningless" in text.replace("\n", " ")


def test_a_model_without_a_completed_run_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "r", status="failed", error="boom")
    text = write(tmp_path / "r", tmp_path / "o")["llava"]
    assert "No run of this model completed." in text
    assert "boom" in text


@pytest.mark.usefixtures("without_figures")
def test_a_model_name_cannot_choose_where_its_page_goes(tmp_path: Path) -> None:
    for model in ("../../escaped", "index", "/tmp/escaped", "a|b"):
        write_run(tmp_path / "r", model=model, status="failed", error="boom")
    pages = write(tmp_path / "r", tmp_path / "deep" / "o")
    assert len(pages) == 5
    assert {path.parent for path in tmp_path.rglob("*.md")} == {tmp_path / "deep" / "o"}
    linked = re.findall(r"\]\(([^)]+)\.md\)", pages["index"])
    assert set(linked) == set(pages) - {"index"}


@pytest.mark.usefixtures("without_figures")
def test_a_sweep_names_its_machine_where_runs_are_from_several(tmp_path: Path) -> None:
    other = {**MACHINE, "cpu_model": "Another CPU"}
    for machine, sizes in ((MACHINE, (112, 224)), (other, (112, 224, 336))):
        for img_size in sizes:
            write_run(tmp_path / "r", machine=machine, img_size=img_size)
        write_run(tmp_path / "r", machine=machine, optimization="bf16")
    written = write(tmp_path / "r", tmp_path / "o")
    fixed = [line for line in written["llava"].splitlines() if line.startswith("All at ")]
    assert fixed and all(line.count("CPU, Synthetic OS 1") == 1 for line in fixed)
    assert "Another CPU" in fixed[0]
    (heads,) = re.findall(r"<summary>7 runs</summary>\n\n(.*)", written["llava"])
    assert "| machine |" in heads
    assert "CPU, Synthetic OS 1, on cpu." in written["optimizations"]


def test_a_machine_that_all_runs_share_is_named_once(pages: dict[str, str]) -> None:
    assert pages["llava"].count("Synthetic CPU") == 1


@pytest.mark.usefixtures("without_figures")
def test_a_phase_that_drifts_has_no_interval(tmp_path: Path) -> None:
    """As the latency has none, whose level is judged in the same way."""
    draw = random.Random(1)
    steady = [0.05 * (1 + 0.03 * draw.gauss(0, 1)) for _ in range(60)]
    warming = [value * (1 + 0.2 * math.exp(-repeat / 60)) for repeat, value in enumerate(steady)]
    write_timed(tmp_path / "r", {"vision": steady, "prefill": steady, "decode": warming})
    write_timed(tmp_path / "r", dict.fromkeys(("vision", "decode"), steady), img_size=112)
    page = write(tmp_path / "r", tmp_path / "o")["llava"]
    heads, _, *rows = re.findall(r"^\|.*latency \(.*\|$(?:\n\|.*\|$)+", page, re.M)[0].splitlines()
    row = next(row for row in rows if "| 224 |" in row)
    cells = dict(zip(heads.split(" | "), row.split(" | "), strict=True))
    (vision,), (decode,) = (
        [cell for head, cell in cells.items() if name in head] for name in ("vision", "decode")
    )
    assert "[" in vision and "[" not in decode
