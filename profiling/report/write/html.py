"""Write all runs as one self-contained page: table, charts, answers, pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from profiling import metrics
from profiling.files import read_bytes
from profiling.metrics import FLAG_COLUMNS, OVERVIEW, PHASES, SHARE, SUMMARY_COLUMNS, TEXT_COLUMNS
from profiling.report.draw.palette import COLOURS, MODEL_COLOURS
from profiling.report.read.keys import list_keys, root_of
from profiling.report.read.pictures import LARGEST_BYTES, SampleContent, find_samples, match
from profiling.report.read.runs import Run, Runs, without_cache
from profiling.report.read.sweeps import (
    is_timed,
    name_key,
    newest,
    pick_reference,
)
from profiling.report.say import escape, sentences
from profiling.report.say.marks import (
    ESTIMATED,
    NOISY,
    explain,
    mark_run,
)
from profiling.report.say.units import TIMES

SHAPES = ("circle", "rect", "triangle", "rectRot", "star", "crossRot", "cross")
# A page with so much text still opens at once; the page says how many answers are left out.
MOST_ANSWERS = 100_000
FEWEST_ANSWERS_OF_A_RUN = 8
LONGEST_ANSWER = 2_000
MOST_PICTURE_BYTES = 8_000_000
_MEDIA_TYPES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".gif": "gif", ".webp": "webp"}


def to_html(found: Runs) -> str:
    """The whole page. It holds records as JSON data or as escaped sentences, never as markup."""
    runs = newest(found.runs)
    library, script, style = (_asset(name) for name in ("chart.umd.min.js", "page.js", "page.css"))
    parts = {
        "POLICY": _policy([library, script], style),
        "STYLE": style,
        "ANSWER": "".join(f"<p>{sentence}</p>" for sentence in _say(found.runs, runs)),
        "MARKS": "".join(f"<li>{line}.</li>" for line in explain(runs, estimates=True)),
        "DATA": "\n".join(_data_elements(runs)),
        "LIBRARY": library,
        "SCRIPT": script,
    }
    return re.sub(r"@([A-Z]+)@", lambda match: parts[match[1]], _asset("page.html"))


def _asset(name: str) -> str:
    text = (files("profiling.report.write") / "page" / name).read_text(encoding="utf-8")
    # Developer tools would look for the map beside the page.
    return re.sub(r"\n//# sourceMappingURL=.*", "", text)


def _policy(scripts: Sequence[str], style: str) -> str:
    """Nothing from outside, and no script except the two of the page, whatever the data contain."""
    allowed = " ".join(_digest(script) for script in scripts)
    return f"default-src 'none'; img-src data:; script-src {allowed}; style-src {_digest(style)}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _say(all_runs: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """The first sentences; their escapes for markdown are valid in HTML too."""
    timed = [run for run in runs if is_timed(run)]
    said = [" ".join(sentences.say_scope(all_runs))]
    for model in sorted({run["model"] for run in timed}):
        own = pick_reference([run for run in timed if run["model"] == model])
        said.append(f"{escape.markdown(model)}: {sentences.say_latency(own)}")
    return [re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", sentence) for sentence in said]


def _data_elements(runs: Sequence[Run]) -> list[str]:
    store = _SampleStore()
    most = max(FEWEST_ANSWERS_OF_A_RUN, MOST_ANSWERS // max(1, len(runs)))
    details = [
        _element(f"run-{i}", _describe(run, store, most_answers=most)) for i, run in enumerate(runs)
    ]
    return [
        _element("data", _tabulate(runs)),
        *details,
        _element("samples", store.samples),
        _element("pictures", store.pictures),
    ]


def _element(name: str, value: object) -> str:
    return f'<script type="application/json" id="{name}">{escape.embedded_json(value)}</script>'


def _tabulate(runs: Sequence[Run]) -> dict[str, Any]:
    """The table of runs: the summary columns, and the other keys in which the runs differ."""
    keys = [key for key in list_keys(run.settings for run in runs) if _is_shown(key, runs)]
    names = [*SUMMARY_COLUMNS, *(key for key in keys if key not in SUMMARY_COLUMNS)]
    rows = [[run[name] for name in names] for run in runs]
    return {
        "columns": [_column(name, runs) for name in names],
        "rows": rows,
        "names": [run.short for run in runs],
        "marks": [mark_run(run) for run in runs],
        "search": [" ".join(str(value) for value in row if value).lower() for row in rows],
        "settings": [key for key in keys if key not in ("model", "weights")],
        "filters": [*keys, "status"],
        "main": [*keys, "status", *metrics.list_shown(OVERVIEW)],
        "phases": [{"name": phase, "colour": COLOURS[phase]} for phase in PHASES],
        "colours": MODEL_COLOURS,
        "shapes": SHAPES,
        "noisy": NOISY,
        "estimated": ESTIMATED,
    }


def _is_shown(key: str, runs: Sequence[Run]) -> bool:
    """Whether a key is one that describes runs, or one in which these runs differ."""
    if key in ("model", "weights"):
        return True
    described = key in SUMMARY_COLUMNS and bool(metrics.find(key).phrase)
    return described or (bool(runs) and key in runs[0].distinct and root_of(key) == key)


def _column(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    if name not in SUMMARY_COLUMNS:
        texts = any(isinstance(run[name], (str, bool)) for run in runs)
        kind = "text" if texts else "number"
        plain = {"unit": metrics.COUNT, "share": False, "estimated": False, "timed": False}
        return {"name": name, "title": name_key(name), "kind": kind, **plain}
    metric = metrics.find(name)
    kind = "text" if name in TEXT_COLUMNS else "flag" if name in FLAG_COLUMNS else "number"
    return {
        "name": name,
        "title": metric.title,
        "kind": kind,
        "unit": metric.unit,
        "share": metric.shown_as == SHARE,
        "estimated": metric.is_estimate,
        "timed": metric.from_times,
    }


def _describe(run: Run, store: _SampleStore, *, most_answers: int) -> dict[str, Any]:
    """The details of a run, shown when it is opened."""
    answers = without_cache(run.record).answers if run.completed else []
    found = store.find(run)
    return {
        "error": run.record.run.get("error"),
        "config": run.record.config,
        "machine": run.record.run["machine"],
        "versions": run.record.run.get("versions"),
        "provenance": dict(run.provenance),
        "num_answers": len(answers),
        "answers": [
            [
                store.add(line, match(found, line)),
                escape.shorten(str(line["answer"]), LONGEST_ANSWER),
                line.get("wer"),
            ]
            for line in answers[:most_answers]
        ],
    }


def _count_equal(texts: Sequence[str]) -> list[str]:
    """Each distinct text with its count."""
    counts = Counter(texts)
    return [text if n == 1 else f"{text} ({n}{TIMES})" for text, n in counts.items()]


class _SampleStore:
    """The samples and pictures of all runs, each of them once."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self._known_samples: dict[str, int] = {}
        self._known_pictures: dict[Path, int | None] = {}
        self._folders: dict[str, dict[str, SampleContent]] = {}
        self._left_bytes = MOST_PICTURE_BYTES

    def find(self, run: Run) -> dict[str, SampleContent]:
        """The samples of a run; runs with the same folder share them."""
        folder = str(run.record.config.get("dataset"))
        if folder not in self._folders:
            self._folders[folder] = find_samples(run.record, follow=run.follows_folder)
        return self._folders[folder]

    def add(self, line: dict[str, Any], content: SampleContent) -> int:
        references = line.get("references")
        listed = references if isinstance(references, list) else []
        sample = {
            "id": str(line["id"]),
            "question": escape.shorten(content.request or str(line["prompt"]), LONGEST_ANSWER),
            "references": _count_equal([escape.shorten(str(text)) for text in listed]),
            "picture": None if content.picture is None else self._add_picture(content.picture),
        }
        key = escape.embedded_json(sample)
        if key not in self._known_samples:
            self._known_samples[key] = len(self.samples)
            self.samples.append(sample)
        return self._known_samples[key]

    def _add_picture(self, path: Path) -> int | None:
        if path not in self._known_pictures:
            self._known_pictures[path] = self._embed(path)
        return self._known_pictures[path]

    def _embed(self, path: Path) -> int | None:
        content = read_bytes(path, at_most=LARGEST_BYTES)
        if len(content) > self._left_bytes:
            return None
        self._left_bytes -= len(content)
        kind = _MEDIA_TYPES[path.suffix.lower()]
        self.pictures.append(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
        return len(self.pictures) - 1
