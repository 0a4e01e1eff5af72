"""The page in a real browser: filters, differences, the address, narrow windows, and paper."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profiling.report import read_runs
from profiling.report.command import main
from profiling.report.write.html import to_html
from tests.report.synthetic import (
    HOSTILE,
    write_comparison,
    write_hostile,
    write_many,
    write_run,
    write_samples,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PDF_TO_TEXT = shutil.which("pdftotext")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

SAY = "parent.postMessage(btoa(unescape(encodeURIComponent(JSON.stringify(said)))), '*');"
CAUGHT = "said.errors.push(error.stack);"
# What the scripts below have in common.
HELP = """
const said = {errors: [], title: document.title};
addEventListener('error', (event) => said.errors.push(event.message));
const all = (selector) => [...document.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);
const texts = (selector) => all(selector).map((element) => element.textContent);
const runRows = () => all('#runs tbody tr');
const heads = () => texts('#runs thead th button');
const set = (element, value) => {
  element.value = value;
  element.dispatchEvent(new Event(element.type === 'search' ? 'input' : 'change'));
};
const filter = (name, value) => set(one(`select[data-filter="${name}"]`), value);
const check = (i) => runRows()[i].querySelector('input').click();
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    data = tmp_path_factory.mktemp("data")
    write_samples(data)
    for img_size in (112, 224, 336, 448):
        plain = write_run(folder, img_size=img_size)
        write_hostile(folder, data, img_size=img_size)
    fast = write_run(folder, img_size=448, optimization="bf16", samples=8)
    write_comparison(plain, fast, ratio=1.3, phases={"vision": 1.5})
    for number in (1, 2, 3):
        write_run(folder, img_size=560, round=number, seed=number, slower=1 + number / 50)
    write_run(folder, model="qwen25vl", noisy=True)
    write_run(folder, model=HOSTILE, status="failed", error=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return to_html(read_runs(results), results=str(results))


def start(folder: Path, *arguments: str) -> str:
    """What a headless browser prints."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
        *("--virtual-time-budget=3000", "--window-size=1300,1000", *arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def save(page: str, folder: Path, script: str = "") -> Path:
    """The page with one more script, which its own policy is extended by."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return path


def browse(
    page: str, script: str, folder: Path, *, width: int = 1200, address: str = ""
) -> dict[str, Any]:
    """What a script finds in the page, at an address, run under the page's own policy."""
    save(page, folder, f"{{{HELP} try {{{script}}} catch (error) {{{CAUGHT}}} {SAY}}}")
    # A window of a headless browser is at least 500 pixels wide; a frame can be narrower.
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe src="page.html{address}" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('message', e => document.title = e.data)</script>",
        encoding="utf-8",
    )
    printed = start(folder, f"--screenshot={folder / 'page.png'}", "--dump-dom", str(frame))
    found = re.search(r"<title>(.*?)</title>", printed)
    assert found is not None, printed[-2000:]
    said: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    assert said["errors"] == []
    assert said["title"] == "Profiling report"
    assert said.get("after", "Profiling report") == "Profiling report"
    return said


CLICKS = """
const cell = (row, i) => row.children[i].textContent;
said.rows = runRows().length;
said.models = [...one('select[data-filter="model"]').options].map((option) => option.value);
filter('model', 'fuyu');
said.filtered = runRows().length;
one('button[data-sort="latency_s"]').click();
const column = heads().findIndex((head) => head.startsWith('latency')) + 1;
said.ascending = runRows().map((row) => cell(row, column));
said.sorted = all('#runs th')[column].ariaSort;
one('button[data-sort="latency_s"]').click();
said.descending = runRows().map((row) => cell(row, column));
runRows()[0].querySelector('button.link').click();
said.panel = one('#content').textContent;
said.pictures = all('#content img').length;
said.handlers = all('[onerror]').length;
one('#panel').close();
filter('model', '');
set(one('#text'), 'qwen25vl');
said.found = runRows().length;
said.too_wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
said.after = document.title;
"""


@pytest.mark.parametrize("width", [360, 1300])
def test_filters_sorting_and_the_panel_of_a_run(page: str, tmp_path: Path, width: int) -> None:
    said = browse(page, CLICKS, tmp_path, width=width)
    assert said["rows"] == 12
    assert HOSTILE in said["models"]
    assert said["filtered"] == 4
    assert said["sorted"] == "ascending"
    assert said["descending"] == said["ascending"][::-1]
    assert HOSTILE in said["panel"]
    assert said["pictures"] == 1
    assert said["handlers"] == 0
    assert said["found"] == 1
    assert said["too_wide"] <= 0
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_what_all_runs_share_is_one_line_and_no_column(page: str, tmp_path: Path) -> None:
    script = """
    said.same = one('#same').textContent;
    said.heads = heads();
    filter('img_size', '448');
    filter('model', 'llava');
    said.narrowed = one('#same').textContent;
    said.fewer = heads();
    set(one('#text'), 'no run has this');
    said.none = [runRows().length, one('#same').textContent, one('#bars').textContent];
    """
    said = browse(page, script, tmp_path)
    assert said["same"].startswith("The same in all 12 runs: ")
    assert "weights: tiny" in said["same"] and "weights" not in said["heads"]
    # The order of importance: what tells runs apart, then their latency.
    assert said["heads"][:5] == [
        "model",
        "optimization",
        "image size (px)",
        "status",
        "latency (ms)",
    ]
    assert "model: llava" in said["narrowed"]
    assert said["fewer"][:2] == ["optimization", "latency (ms)"]
    assert said["none"] == [0, "", "no run with a latency is shown"]


def test_every_bar_has_a_label(tmp_path: Path) -> None:
    write_many(tmp_path / "results", 120)
    script = """
    const labels = () => texts('#bars .label').slice(1);
    said.first = labels();
    for (let i = 0; i < 5; i++) one('#more-bars').click();
    said.all = labels();
    said.hidden = all('#bars .label').slice(1).filter((label) => !label.offsetWidth).length;
    said.axis = texts('#bars .axis span');
    said.head = texts('#bars .value')[0];
    """
    said = browse(to_html(read_runs(tmp_path / "results")), script, tmp_path)
    assert len(said["first"]) == 40
    timed = [run for run in read_runs(tmp_path / "results").runs if run.completed]
    assert len(said["all"]) == len({run.record.fingerprint for run in timed})
    assert len(set(said["all"])) == len(said["all"])
    assert all(label.strip() for label in said["all"]) and said["hidden"] == 0
    assert said["axis"][0] == "0" and len(said["axis"]) >= 3
    assert said["head"] == "latency (ms)"


def test_the_difference_has_the_numbers_of_compare(
    page: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = """
    filter('img_size', '448');
    filter('model', 'llava');
    said.disabled = one('#difference').disabled;
    check(0);
    check(1);
    one('#difference').click();
    const texted = (row) => [...row.children].map((cell) => cell.textContent);
    said.rows = all('#content table tbody tr').map(texted);
    said.items = texts('#content ul:not(.legend) li');
    said.command = one('#content code').textContent;
    said.names = all('#content table tbody span').map((span) => span.title);
    """
    said = browse(page, script, tmp_path)
    assert said["disabled"] is True
    words = said["command"].split()
    assert words[:4] == ["python", "-m", "profiling.report", "compare"]
    assert main(words[3:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in said["items"] if line not in lines] == []
    assert any("measured in pairs (5 launches" in line for line in said["items"])
    assert any(row[0] == "vision" and "paired" in row for row in said["rows"])
    table = [re.split(r" {2,}", line.strip()) for line in lines[-len(said["rows"]) :]]
    shown = [
        [name, *(cell for cell in row[1:] if cell)]
        for name, row in zip(said["names"], said["rows"], strict=True)
    ]
    assert shown == table


def test_a_difference_with_a_failed_run_says_why_there_is_none(page: str, tmp_path: Path) -> None:
    script = """
    one('#all-columns').click();
    const failed = runRows().findIndex((row) => row.textContent.includes('failed'));
    check(failed);
    check(failed ? 0 : 1);
    one('#difference').click();
    said.text = one('#content').textContent;
    """
    assert "Only completed runs are compared." in browse(page, script, tmp_path)["text"]


def test_the_address_shows_the_same_again(page: str, tmp_path: Path) -> None:
    script = """
    const state = () => ({
      rows: runRows().map((row) => row.textContent), heads: heads(), shown: one('#panel').open,
      content: one('#content').textContent, chosen: one('#chosen').textContent,
      x: one('#x-column').value, cost: one('#cost').value, log: one('#x-log').checked,
      text: one('#text').value, note: one('#note').hidden,
    });
    """
    made = """
    filter('model', 'llava');
    set(one('#text'), 'baseline');
    one('button[data-sort="latency_s"]').click();
    one('button[data-sort="latency_s"]').click();
    one('#all-columns').click();
    check(0);
    check(2);
    set(one('#x-column'), 'ttft_s');
    set(one('#cost'), 'vision_s');
    one('#x-log').click();
    one('#difference').click();
    said.address = location.hash;
    said.state = state();
    """
    first = browse(page, script + made, tmp_path)
    assert first["state"]["shown"] and len(first["state"]["rows"]) == 5
    again = browse(page, script + "said.state = state();", tmp_path, address=first["address"])
    assert again["state"] == first["state"]
    assert "model=llava" in first["address"] and "_runs=" in first["address"]


def test_another_address_is_followed_and_what_it_asks_in_vain_is_said(
    page: str, tmp_path: Path
) -> None:
    # A script that waits would be answered after the others; the page is told at once.
    script = """
    said.note = [one('#note').hidden, one('#note').textContent];
    said.rows = runRows().length;
    one('#panel').close();
    location.hash = '#model=fuyu';
    dispatchEvent(new HashChangeEvent('hashchange'));
    said.followed = [runRows().length, one('#note').hidden];
    location.hash = '#%E0%A4%A&model=%00&_runs=,,&_sort=&&=';
    dispatchEvent(new HashChangeEvent('hashchange'));
    said.broken = runRows().length;
    """
    address = (
        "#model=gpt&_runs=nothing&_x=wer2&_open=difference&img_size=112"
        "&_columns=some&_scale=log&_other=1"
    )
    said = browse(page, script, tmp_path, address=address)
    hidden, note = said["note"]
    assert not hidden
    assert all(part in note for part in ("model=gpt", "nothing", "_x=wer2"))
    assert all(part in note for part in ("_columns=some", "_scale=log", "_other=1"))
    assert "_open=difference" in note and "img_size" not in note
    assert said["rows"] == 2
    assert said["followed"] == [4, True]
    assert said["broken"] == 12


def test_charts_of_growth_and_of_rooflines_follow_what_is_chosen(page: str, tmp_path: Path) -> None:
    script = """
    const chart = (id) => Chart.getChart(id).data.datasets;
    const curves = () => chart('growth-chart').filter((set) => set.isCurve);
    said.curves = curves().map((set) => set.label);
    said.points = curves().map((set) => set.data.length);
    said.bounds = curves()[0].data.every((point) => point.low <= point.y && point.y <= point.high);
    set(one('#against'), 'num_visual_tokens');
    said.tokens = curves()[0].data.map((point) => point.x);
    filter('model', 'fuyu');
    said.filtered = curves().map((set) => set.label);
    said.one = chart('roofline-chart').length;
    check(0);
    check(1);
    said.two = chart('roofline-chart').length;
    said.phases = texts('#roofline-table tbody td:first-child');
    said.about = chart('roofline-chart')[1].data[0].about;
    const roofline = Chart.getChart('roofline-chart');
    roofline.options.onClick({}, [{datasetIndex: 1, index: 0}], roofline);
    said.opened = one('#panel').open;
    """
    said = browse(page, script, tmp_path)
    assert len(said["curves"]) == 2 and any(label.startswith("fuyu") for label in said["curves"])
    assert sorted(said["points"]) == [4, 5]
    assert said["bounds"]
    assert said["tokens"][0] == 64
    assert len(said["filtered"]) == 1
    assert (said["one"], said["two"]) == (2, 4)
    assert said["phases"] == ["vision", "projector", "prefill", "decode"] * 2
    assert any(line.startswith("bound by: ") for line in said["about"])
    assert said["opened"]


def test_rounds_are_named_beside_their_row(page: str, tmp_path: Path) -> None:
    script = "filter('img_size', '560'); said.row = runRows()[0].textContent;"
    assert "3 rounds" in browse(page, script, tmp_path)["row"]


@pytest.mark.skipif(PDF_TO_TEXT is None, reason="there is no pdftotext")
@pytest.mark.parametrize("address", ["", "#_open=difference&_runs={}"])
def test_a_print_has_the_latencies(page: str, tmp_path: Path, address: str) -> None:
    path, pdf = save(page, tmp_path), tmp_path / "page.pdf"
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    where = f"{path.as_uri()}{address.format(','.join(data['names'][:2]))}"
    start(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", where)
    assert pdf.read_bytes().startswith(b"%PDF")
    printed = subprocess.run(
        [str(PDF_TO_TEXT), "-layout", str(pdf), "-"], capture_output=True, text=True, check=True
    ).stdout
    (latency,) = (own for own in data["columns"] if own["name"] == "latency_s")
    if address:
        assert "What to type" not in printed and "profiling.report compare" in printed
        assert "Table" not in printed
        return
    table = printed.partition("Table")[2]
    assert "latency (ms)" in table
    for cell in latency["cells"]:
        assert cell in table
    # Buttons are of no use on paper.
    assert "difference of two" not in printed and "search" not in printed


def test_a_thousand_runs(tmp_path: Path) -> None:
    write_many(tmp_path / "results", 1000)
    found = read_runs(tmp_path / "results")
    script = """
    one('button[data-sort="wer"]').click();
    said.rows = RUNS.length;
    said.drawn = runRows().length;
    one('#more').click();
    said.more = runRows().length;
    check(0);
    check(150);
    one('#difference').click();
    said.text = one('#content').textContent;
    """
    said = browse(to_html(found), script, tmp_path)
    assert said["rows"] == len({run.record.fingerprint for run in found.runs})
    assert (said["drawn"], said["more"]) == (100, 200)
    assert "This page does not hold the comparison" in said["text"] or "They differ" in said["text"]
    assert "profiling.report compare" in said["text"]
