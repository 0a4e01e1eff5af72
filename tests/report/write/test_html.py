"""The self-contained page: nothing from outside, records as data, and it works in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from profiling.records import SUMMARY_COLUMNS
from profiling.report import read_runs
from profiling.report.write.html import to_html
from tests.report.synthetic import write_many, write_run

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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
    (data / "one.png").write_bytes(PIXEL)
    entry = {"id": "sample-0", "image_path": "one.png", "response": "sign number 0"}
    (data / "samples.json").write_text(json.dumps([entry]), encoding="utf-8")
    for img_size in (112, 224, 336, 448):
        write_run(folder, img_size=img_size)
        hostile = write_run(folder, img_size=img_size, model="fuyu", answers=[HOSTILE] * 8)
        run = json.loads((hostile / "run.json").read_text(encoding="utf-8"))
        run["config"]["dataset"]["folder"] = str(data)
        (hostile / "run.json").write_text(json.dumps(run), encoding="utf-8")
    write_run(folder, model="qwen25vl", noisy=True)
    write_run(folder, model=HOSTILE, status="failed", error=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return to_html(read_runs(results))


def test_every_run_is_in_the_data(results: Path, page: str) -> None:
    data = parse(page).data
    runs = {run.short: run for run in read_runs(results).runs}
    assert set(data["data"]["names"]) == set(runs)
    assert [column["name"] for column in data["data"]["columns"]] == list(SUMMARY_COLUMNS)
    for name, row in zip(data["data"]["names"], data["data"]["rows"], strict=True):
        assert row == [runs[name][column] for column in SUMMARY_COLUMNS]
    assert sum(name.startswith("run-") for name in data) == len(runs) == 10


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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def browse(page: str, script: str, folder: Path, *, width: int) -> dict[str, Any]:
    """What a script finds in the page, run by a real browser with the page's own policy."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    page = page.replace("</body>", f"<script>{script}</script></body>")
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    # A window of a headless browser is at least 500 pixels wide; a frame can be narrower.
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('message', e => document.title = e.data)</script>",
        encoding="utf-8",
    )
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
        *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
        *("--virtual-time-budget=3000", "--window-size=1300,1000"),
        *(f"--screenshot={folder / 'page.png'}", "--dump-dom", str(frame)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    return json.loads(base64.b64decode(found[1]))


SAY = "parent.postMessage(btoa(unescape(encodeURIComponent(JSON.stringify(said)))), '*');"

CLICKS = """
const said = {title: document.title};
const rows = () => [...document.querySelectorAll('#runs tbody tr')];
const cell = (row, i) => row.children[i].textContent;
said.rows = rows().length;
const filter = document.querySelector('select[data-filter="model"]');
said.models = [...filter.options].map((option) => option.value);
filter.value = 'llava';
filter.dispatchEvent(new Event('change'));
said.filtered = rows().length;
document.querySelector('button[data-sort="latency_s"]').click();
const column = [...document.querySelectorAll('#runs thead th')]
  .findIndex((head) => head.textContent.startsWith('latency_s'));
said.ascending = rows().map((row) => cell(row, column));
document.querySelector('button[data-sort="latency_s"]').click();
said.descending = rows().map((row) => cell(row, column));
for (const i of [0, 1]) rows()[i].querySelector('input').click();
document.getElementById('difference').click();
said.difference = document.getElementById('content').textContent;
document.getElementById('panel').close();
filter.value = 'fuyu';
filter.dispatchEvent(new Event('change'));
rows()[0].querySelector('button.name').click();
said.panel = document.getElementById('content').textContent;
said.pictures = document.querySelectorAll('#content img').length;
said.handlers = document.querySelectorAll('[onerror]').length;
document.getElementById('panel').close();
const text = document.getElementById('text');
filter.value = '';
filter.dispatchEvent(new Event('change'));
text.value = 'qwen25vl';
text.dispatchEvent(new Event('input'));
said.found = rows().length;
said.too_wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
said.bars = Chart.getChart('bars').data.datasets.map((set) => set.label);
said.after = document.title;
"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_clicks_in_a_browser(page: str, tmp_path: Path, width: int) -> None:
    said = browse(page, CLICKS + SAY, tmp_path, width=width)
    assert said["rows"] == 10
    assert HOSTILE in said["models"]
    assert said["filtered"] == 4
    assert said["descending"] == said["ascending"][::-1]
    assert "img_size" in said["difference"] and "latency_s" in said["difference"]
    assert HOSTILE in said["panel"]
    assert said["pictures"] == 1
    assert said["handlers"] == 0
    assert said["found"] == 1
    assert "vision" in said["bars"] and "decode" in said["bars"]
    assert said["too_wide"] <= 0
    assert said["title"] == said["after"] == "Profiling report"
    assert (tmp_path / "page.png").stat().st_size > 5000


@pytest.mark.slow
@needs_browser
def test_two_thousand_runs_in_a_browser(tmp_path: Path) -> None:
    write_many(tmp_path / "results", 2000)
    page = to_html(read_runs(tmp_path / "results"))
    script = """
    const said = {opened_s: performance.now() / 1000};
    const begun = performance.now();
    document.querySelector('button[data-sort="wer"]').click();
    said.sorted_s = (performance.now() - begun) / 1000;
    said.rows = data.rows.length;
    said.drawn = document.querySelectorAll('#runs tbody tr').length;
    """
    said = browse(page, script + SAY, tmp_path, width=1200)
    assert said["rows"] == len(
        {run.record.run["fingerprint"] for run in read_runs(tmp_path / "results").runs}
    )
    assert 0 < said["drawn"] <= 100
