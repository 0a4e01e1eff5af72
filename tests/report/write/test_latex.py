"""LaTeX tables: intervals below their values, what fits on a page, and a document that compiles."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from profiling.report import read_runs
from profiling.report.command import main
from profiling.report.write.latex import LENGTH, to_latex
from tests.report.synthetic import HOSTILE, MACHINE, write_many, write_run

COMMANDS = r"\input{/etc/passwd} $x_1$ 50% [a] & ~^#"
DOCUMENT = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\begin{document}
\input{tables}
\end{document}
"""


def tables_of(text: str) -> list[str]:
    return re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)


def rows_of(table: str) -> list[list[str]]:
    body = table.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    return [line.removesuffix(r" \\").split(" & ") for line in body.strip().splitlines()]


@pytest.fixture
def written(tmp_path: Path) -> str:
    for img_size in (112, 224, 336):
        write_run(tmp_path / "r", model="llava", img_size=img_size, samples=8)
    for model, named in (("fuyu", HOSTILE), ("blip2_t5", COMMANDS)):
        path = write_run(tmp_path / "r", model=model) / "run.json"
        text = path.read_text(encoding="utf-8").replace(f'"{model}"', json.dumps(named))
        path.write_text(text, encoding="utf-8")
    return to_latex(read_runs(tmp_path / "r"), command="report --latex x\n\\evil")


def test_each_row_has_as_many_cells_as_the_head(written: str) -> None:
    for table in tables_of(written):
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", table)
        head = table.partition(r"\toprule")[2].partition(r"\midrule")[0].strip()
        assert len(head.removesuffix(r" \\").split(" & ")) == len(columns)
        assert {len(row) for row in rows_of(table)} == {len(columns)}


def test_an_interval_stands_below_its_value(tmp_path: Path) -> None:
    summary = {"latency_s": 0.0877, "latency_ci_low_s": 0.0778, "latency_ci_high_s": 0.0929}
    for img_size in (112, 224):
        write_run(tmp_path / "r", model="llava", img_size=img_size, summary=summary)
    first = rows_of(tables_of(to_latex(read_runs(tmp_path / "r"), command="x"))[0])[0]
    assert first[:2] == ["112", r"\shortstack[r]{87.7\\{}{[}77.8, 92.9]}"]


def test_every_size_of_a_model_is_in_each_of_its_parts(written: str) -> None:
    own = [table for table in tables_of(written) if r"\caption{llava" in table]
    assert [[row[0] for row in rows_of(table)] for table in own] == [["112", "224", "336"]] * len(
        own
    )
    assert f"Part {len(own)} of {len(own)}." in own[-1]
    assert len(set(re.findall(r"\\label\{(.*?)\}", written))) == len(tables_of(written))


def test_a_caption_names_a_device_that_all_rows_have(tmp_path: Path) -> None:
    for name, devices in (("one", ["cpu"] * 2), ("two", ["cpu", "cuda:0"])):
        for number, device in enumerate(devices):
            write_run(tmp_path / name, device=device, img_size=112 * (number + 1))
    one, two = (to_latex(read_runs(tmp_path / name), command="x") for name in ("one", "two"))
    assert ", on cpu." in one
    assert ", on " not in two and "cuda:0" in two


def test_a_caption_names_all_machines_of_its_rows(tmp_path: Path) -> None:
    for number, cpu in enumerate(("One CPU", "Two CPU")):
        write_run(tmp_path, machine={**MACHINE, "cpu_model": cpu}, img_size=112 * (number + 1))
    caption = to_latex(read_runs(tmp_path), command="x").split(r"\caption{")[1]
    assert "Measured on One CPU, Synthetic OS 1; Two CPU, Synthetic OS 1." in caption


def test_text_of_records_is_no_command(written: str) -> None:
    assert r"\input{" not in written
    assert r"\evil" not in written.partition("\n\n")[2]
    assert r"\textbackslash" in written


def test_many_runs_are_parts_that_fit(tmp_path: Path) -> None:
    write_many(tmp_path / "r", 200)
    tables = tables_of(to_latex(read_runs(tmp_path / "r"), command="x"))
    assert max(len(rows_of(table)) for table in tables) <= LENGTH
    heights = [sum(_height(row) for row in rows_of(table)) for table in tables]
    assert max(heights) <= LENGTH


def _height(row: list[str]) -> int:
    return 1 + max(cell.count(r"\\{}") for cell in row)


@pytest.mark.slow
def test_a_document_with_them_compiles(tmp_path: Path, written: str) -> None:
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("neither pdflatex nor tectonic is installed")
    write_many(tmp_path / "many", 60)
    main([str(tmp_path / "many"), "--latex", str(tmp_path / "many.tex")])
    both = written + (tmp_path / "many.tex").read_text(encoding="utf-8")
    (tmp_path / "tables.tex").write_text(both, encoding="utf-8")
    (tmp_path / "all.tex").write_text(DOCUMENT, encoding="utf-8")
    typed = [program, "all.tex"]
    if Path(program).name == "pdflatex":
        typed[1:1] = ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
