"""The self-contained page: nothing from outside, records as data, and numbers of `compare`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from profiling import metrics
from profiling.metrics import SUMMARY_COLUMNS
from profiling.report import read_runs
from profiling.report.command import main
from profiling.report.read.sweeps import pool_rounds
from profiling.report.say.limits import find_places
from profiling.report.write import html_pairs
from profiling.report.write.columns import number_column
from profiling.report.write.html import to_html
from profiling.statistics.rounds import bound_rounds
from tests.report.synthetic import (
    HOSTILE,
    MACHINE,
    PIXEL,
    write_comparison,
    write_hostile,
    write_many,
    write_run,
    write_samples,
)


class _Elements(HTMLParser):
    """Scripts by their type, and every attribute value of every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.data: dict[str, Any] = {}
        self.attributes: list[tuple[str, str]] = []
        self._open: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            return
        if self._open.get("type") == "application/json":
            self.data[str(self._open["id"])] = json.loads(data)
        else:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = None


def parse(page: str) -> _Elements:
    elements = _Elements()
    elements.feed(page)
    return elements


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    data = tmp_path_factory.mktemp("data")
    write_samples(data)
    for img_size in (112, 224, 336, 448):
        write_run(folder, img_size=img_size)
        write_hostile(folder, data, img_size=img_size)
    write_run(folder, model="qwen25vl", noisy=True)
    write_run(folder, model=HOSTILE, status="failed", error=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return to_html(read_runs(results))


def column_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(column for column in data["data"]["columns"] if column["name"] == name)


def test_every_run_and_every_column_is_in_the_data(results: Path, page: str) -> None:
    data = parse(page).data
    runs = {run.short: run for run in read_runs(results).runs}
    assert set(data["data"]["names"]) == set(runs)
    names = [column["name"] for column in data["data"]["columns"]]
    ends = {end for name in SUMMARY_COLUMNS for end in metrics.find(name).bounds or ()}
    assert sorted(names) == sorted({*SUMMARY_COLUMNS, "error"} - ends - {"fingerprint"})
    for column in data["data"]["columns"]:
        assert len(column["cells"]) == len(runs)
    assert sum(name.startswith("run-") for name in data) == len(runs) == 10


def test_cells_are_those_of_the_markdown_tables(results: Path, page: str) -> None:
    data = parse(page).data
    runs = pool_rounds(read_runs(results).runs)
    assert data["data"]["names"] == [run.short for run in runs]
    for name in ("latency_s", "ttft_s", "peak_memory_bytes", "wer", "speedup"):
        column, expected = column_of(data, name), number_column(runs, name)
        assert (column["head"], column["cells"]) == (expected.head, expected.cells)
    latency = column_of(data, "latency_s")
    assert latency["head"] == "latency (ms)"
    place = next(i for i, value in enumerate(latency["values"]) if value is not None)
    assert re.match(r"[\d.]+ \[[\d.]+, [\d.]+\]", latency["cells"][place])
    low, value, high = (latency[key][place] for key in ("low", "values", "high"))
    assert low <= value <= high
    assert value == pytest.approx(1000 * runs[place]["latency_s"])


def test_times_of_phases_are_in_the_unit_of_the_latency(results: Path, page: str) -> None:
    data = parse(page).data
    runs = pool_rounds(read_runs(results).runs)
    for phase in data["data"]["phases"]:
        expected = [run.number(f"{phase['name']}_s") for run in runs]
        assert [None if size is None else size / 1000 for size in phase["sizes"]] == [
            None if one is None else pytest.approx(one) for one in expected
        ]


def test_settings_come_first_then_the_latency(page: str) -> None:
    data = parse(page).data["data"]
    names = [column["name"] for column in data["columns"]]
    assert data["main"][0] == "latency_s"
    assert names[: len(data["keys"]) + 2] == [*data["keys"], "status", "latency_s"]
    assert data["keys"][:2] == ["model", "img_size"]


# Differences


def read_terminal(line: str, results: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "profiling.report"]
    assert words[-2:] == ["--results", str(results)]
    assert main(words[3:]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with a paired comparison, in rounds, and by themselves; one that failed."""
    folder = tmp_path_factory.mktemp("compared")
    base = write_run(folder, samples=30, summary={"reference_nll": 1.0})
    fast = write_run(folder, optimization="bf16", samples=30)
    write_comparison(base, fast, ratio=1.3, phases={"vision": 1.5})
    for number in (1, 2, 3):
        for size in (112, 336):
            write_run(folder, img_size=size, round=number, seed=number, slower=1 + number / 50)
    write_run(folder, optimization="int4", status="failed", error="boom")
    return folder


def test_differences_are_those_of_compare(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = to_html(read_runs(compared), results=str(compared))
    data = parse(page).data
    pairs = data["pairs"]
    completed = [i for i, s in enumerate(column_of(data, "status")["cells"]) if s == "completed"]
    assert len(completed) == 4
    assert len(pairs["found"]) == 6
    sources = set()
    for key, pair in pairs["found"].items():
        a, b = (pairs["names"][int(place)] for place in key.split())
        lines = read_terminal(f"{pairs['command']} {a} {b} {pairs['results']}", compared, capsys)
        shown = [*pair["sides"], *pair["said"]]
        assert [line for line in lines[: len(shown) + 2] if line][: len(shown)] == shown
        table = [re.split(r" {2,}", line.strip()) for line in lines[-len(pair["rows"]) :]]
        assert table == [[cell for cell in row if cell] for row in pair["rows"]]
        sources |= {row[-1] for row in pair["rows"]}
    assert {"paired", "rounds", "separate runs", "exact", "30 samples"} <= sources


def test_the_plain_model_is_side_a(compared: Path) -> None:
    data = parse(to_html(read_runs(compared))).data
    names = column_of(data, "optimization")["cells"]
    sides = [[names[int(place)] for place in key.split()] for key in data["pairs"]["found"]]
    assert ["baseline", "bf16"] in sides
    assert ["bf16", "baseline"] not in sides


def test_of_many_runs_the_close_pairs_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(tmp_path, 30)
    found = read_runs(tmp_path)
    monkeypatch.setattr(html_pairs, "MOST_PAIRS", 50)
    data = parse(to_html(found)).data
    assert len(data["pairs"]["found"]) == 50
    runs = pool_rounds(found.runs)
    places = {run.name: place for place, run in enumerate(runs)}
    for place, run in enumerate(runs):
        if run.completed and run["optimization"] != "baseline" and run.baseline:
            assert f"{places[run.baseline]} {place}" in data["pairs"]["found"]


def test_what_a_person_types_is_quoted(tmp_path: Path) -> None:
    write_run(tmp_path)
    pairs = parse(to_html(read_runs(tmp_path), results="a b; rm -rf")).data["pairs"]
    assert shlex.split(pairs["results"]) == ["--results", "a b; rm -rf"]


# Rounds


def test_rounds_of_a_point_are_one_row_of_medians(compared: Path) -> None:
    data = parse(to_html(read_runs(compared))).data
    sizes, rounds = column_of(data, "img_size")["cells"], data["data"]["rounds"]
    assert [number for size, number in zip(sizes, rounds, strict=True) if size != "224"] == [3, 3]
    place = sizes.index("112")
    own = [run for run in read_runs(compared).runs if run["img_size"] == 112]
    latency = column_of(data, "latency_s")
    values = [run["latency_s"] for run in own]
    assert latency["values"][place] == pytest.approx(1000 * statistics.median(values))
    bounds = bound_rounds(values)
    assert bounds is not None
    assert latency["low"][place] == pytest.approx(1000 * bounds.low)
    assert "medians of its rounds" in to_html(read_runs(compared))


def test_two_rounds_are_the_newest_one(tmp_path: Path) -> None:
    for number in (1, 2):
        write_run(tmp_path, round=number, seed=number, started_at=f"2026-01-0{number}T00:00:00")
    data = parse(to_html(read_runs(tmp_path))).data
    assert data["data"]["rounds"] == [0]
    newest = max(read_runs(tmp_path).runs, key=lambda run: run.record.run["started_at"])
    assert data["data"]["names"] == [newest.short]


# Charts


def test_a_swept_size_has_curves_and_the_law_of_its_latency(tmp_path: Path) -> None:
    for size in (112, 224, 336, 448, 560):
        write_run(tmp_path, img_size=size, noise=0.001, max_new_tokens=1)
    page = to_html(read_runs(tmp_path))
    (chart,) = parse(page).data["growth"]
    assert (chart["key"], chart["axes"]) == ("img_size", ["img_size", "num_visual_tokens"])
    (curve,) = chart["curves"]
    assert curve["runs"] == [0, 1, 2, 3, 4]
    (run, *_) = pool_rounds(read_runs(tmp_path).runs)
    assert curve["law"]["axis"] == "num_visual_tokens"
    first, last = curve["law"]["points"][0], curve["law"]["points"][-1]
    assert first == [run["num_visual_tokens"], pytest.approx(1000 * run["latency_s"], rel=0.05)]
    assert last[1] > first[1]
    assert "From 112 px to 560 px" in curve["said"]


def test_a_law_leaves_out_a_run_whose_tokens_are_not_known(tmp_path: Path) -> None:
    for size in (112, 224, 336, 448, 560):
        known = {"num_visual_tokens": None} if size == 336 else {}
        write_run(tmp_path, img_size=size, noise=0.001, summary=known)
    (chart,) = parse(to_html(read_runs(tmp_path))).data["growth"]
    assert chart["axes"] == ["img_size"]
    assert chart["curves"][0]["law"]["axis"] == "num_visual_tokens"


def test_runs_of_several_machines_are_told_apart(tmp_path: Path) -> None:
    names = ["One", "Two"]
    for name in names:
        for size in (112, 224):
            write_run(tmp_path, img_size=size, machine={**MACHINE, "cpu_model": name})
    data = parse(to_html(read_runs(tmp_path))).data
    assert "machine" in data["data"]["keys"] and "machine" in data["data"]["filters"]
    assert {cell.partition(",")[0] for cell in column_of(data, "machine")["cells"]} == set(names)
    assert len({curve["name"] for curve in data["growth"][0]["curves"]}) == 2


def test_rooflines_are_places_under_the_peaks(results: Path, page: str) -> None:
    rooflines = parse(page).data["rooflines"]
    for run, shown in zip(pool_rounds(read_runs(results).runs), rooflines["runs"], strict=True):
        places = find_places(run)
        assert (shown is None) == (not places)
        for place, one in zip(places, (shown or {"places": []})["places"], strict=True):
            assert one["name"] == place.phase
            assert one["x"] == pytest.approx(place.intensity)
            assert one["y"] / shown["peak"] == pytest.approx(
                place.flops / place.seconds / place.peak_flops_per_s
            )


@pytest.mark.parametrize("status", ["failed", "unsupported"])
def test_a_page_of_one_run_that_did_not_complete(tmp_path: Path, status: str) -> None:
    write_run(tmp_path, status=status, error="no such device")
    data = parse(to_html(read_runs(tmp_path))).data
    assert column_of(data, "error")["cells"] == ["no such device"]
    assert column_of(data, "latency_s")["cells"] == ["\N{EN DASH}"]
    assert data["growth"] == [] and data["pairs"]["found"] == {}


# Safety


def test_hostile_text_stays_data(page: str) -> None:
    elements = parse(page)
    assert len(elements.scripts) == 2
    assert "owned" not in "".join(elements.scripts)
    assert not any(name.startswith("on") for name, _ in elements.attributes)
    answers = [answer for i in range(10) for _, answer, _ in elements.data[f"run-{i}"]["answers"]]
    assert HOSTILE in answers


def test_nothing_comes_from_outside(page: str) -> None:
    elements = parse(page)
    references = [v for name, v in elements.attributes if name in ("src", "href", "action")]
    assert references == []
    assert "sourceMappingURL" not in page
    assert "@import" not in page and "url(" not in page.split("</style>")[0]


def test_the_policy_allows_the_two_scripts_and_no_other(page: str) -> None:
    elements = parse(page)
    policy = next(v for name, v in elements.attributes if name == "content" and "script-src" in v)
    allowed = re.findall(r"'sha256-[^']+'", policy.split("script-src")[1].split(";")[0])
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in elements.scripts]
    assert allowed == [f"'sha256-{digest.decode()}'" for digest in digests]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_samples_and_pictures_are_there_once(page: str) -> None:
    data = parse(page).data
    assert len(data["pictures"]) == 1
    assert base64.b64decode(data["pictures"][0].removeprefix("data:image/png;base64,")) == PIXEL
    keys = [json.dumps(sample) for sample in data["samples"]]
    assert len(keys) == len(set(keys))


def test_a_page_made_twice_is_the_same(results: Path, page: str) -> None:
    assert to_html(read_runs(results)) == page


def test_much_text_is_cut_and_counted(tmp_path: Path) -> None:
    write_run(tmp_path, samples=1, answers=["a" * 10_000_000])
    page = to_html(read_runs(tmp_path))
    assert len(page) < 500_000
    assert "10000000 characters" in page
