"""Write all runs as one page that needs nothing but itself: table, charts, answers, pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from profiling.records import FLAG_COLUMNS, SUMMARY_COLUMNS, TEXT_COLUMNS
from profiling.report.draw.palette import COLOURS, MODEL_COLOURS, PHASES
from profiling.report.read.pictures import Asked, find_asked, match
from profiling.report.read.runs import Run, Runs, forget
from profiling.report.read.sweeps import (
    SETTING_COLUMNS,
    is_timed,
    newest,
    pick_reference,
)
from profiling.report.say import escape
from profiling.report.say import sentences as words
from profiling.report.say.marks import (
    ESTIMATED,
    NOISY,
    explain,
    mark_run,
)
from profiling.report.say.units import TIMES, unit_of
from profiling.report.write.markdown import ALWAYS_ESTIMATED, SHARES, is_timed_column

FILTERS = ("model", "weights", *SETTING_COLUMNS, "max_new_tokens", "device", "status")
MAIN = (
    *("model", "weights", *SETTING_COLUMNS, "status", "latency_s", "ttft_s", "tpot_s"),
    *("tokens_per_s", "energy_j", "peak_memory_bytes", "wer", "accuracy", "agreement", "speedup"),
)
SHAPES = ("circle", "rect", "triangle", "rectRot", "star", "crossRot", "cross")
# So much text opens in a moment; what is left out is counted on the page.
MOST_ANSWERS = 100_000
FEWEST_ANSWERS_OF_A_RUN = 8
LONGEST_ANSWER = 2_000
MOST_PICTURE_BYTES = 8_000_000
_MEDIA_TYPES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".gif": "gif", ".webp": "webp"}


def to_html(found: Runs) -> str:
    """The whole page. Records enter it as JSON data or as escaped sentences, never as markup."""
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
    # Developer tools would look for this file beside the page.
    return re.sub(r"\n//# sourceMappingURL=.*", "", text)


def _policy(scripts: Sequence[str], style: str) -> str:
    """Nothing from outside, and no script but the page's own two, whatever the data hold."""
    allowed = " ".join(_digest(script) for script in scripts)
    return f"default-src 'none'; img-src data:; script-src {allowed}; style-src {_digest(style)}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _say(all_runs: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """The opening sentences; they are escaped for markdown, whose references HTML shares."""
    timed = [run for run in runs if is_timed(run)]
    said = [" ".join((words.say_outcomes(all_runs), *words.say_origin(all_runs)))]
    for model in sorted({run["model"] for run in timed}):
        own = pick_reference([run for run in timed if run["model"] == model])
        said.append(f"{escape.markdown(model)}: {words.say_latency(own)}")
    return [re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", sentence) for sentence in said]


def _data_elements(runs: Sequence[Run]) -> list[str]:
    album = _Album()
    most = max(FEWEST_ANSWERS_OF_A_RUN, MOST_ANSWERS // max(1, len(runs)))
    details = [
        _element(f"run-{i}", _describe(run, album, most_answers=most)) for i, run in enumerate(runs)
    ]
    return [
        _element("data", _tabulate(runs)),
        *details,
        _element("samples", album.samples),
        _element("pictures", album.pictures),
    ]


def _element(name: str, value: object) -> str:
    return f'<script type="application/json" id="{name}">{escape.embedded_json(value)}</script>'


def _tabulate(runs: Sequence[Run]) -> dict[str, Any]:
    rows = [[run[column] for column in SUMMARY_COLUMNS] for run in runs]
    return {
        "columns": [_column(name) for name in SUMMARY_COLUMNS],
        "rows": rows,
        "names": [run.short for run in runs],
        "marks": [mark_run(run) for run in runs],
        "search": [" ".join(str(value) for value in row if value).lower() for row in rows],
        "settings": SETTING_COLUMNS,
        "filters": FILTERS,
        "main": MAIN,
        "phases": [{"name": phase, "colour": COLOURS[phase]} for phase in PHASES],
        "colours": MODEL_COLOURS,
        "shapes": SHAPES,
        "noisy": NOISY,
        "estimated": ESTIMATED,
    }


def _column(name: str) -> dict[str, Any]:
    kind = "text" if name in TEXT_COLUMNS else "flag" if name in FLAG_COLUMNS else "number"
    return {
        "name": name,
        "kind": kind,
        "unit": unit_of(name),
        "share": name in SHARES,
        "estimated": name in ALWAYS_ESTIMATED,
        "timed": is_timed_column(name),
    }


def _describe(run: Run, album: _Album, *, most_answers: int) -> dict[str, Any]:
    """What is shown when a run is opened."""
    answers = forget(run.record).answers if run.completed else []
    found = album.find(run)
    return {
        "error": run.record.run.get("error"),
        "config": run.record.config,
        "machine": run.record.run["machine"],
        "versions": run.record.run.get("versions"),
        "worths": dict(run.worths),
        "num_answers": len(answers),
        "answers": [
            [
                album.add(line, match(found, line)),
                escape.shorten(str(line["answer"]), LONGEST_ANSWER),
                line.get("wer"),
            ]
            for line in answers[:most_answers]
        ],
    }


def _count_equal(texts: Sequence[str]) -> list[str]:
    """Each text once, with how often it is there."""
    counts = Counter(texts)
    return [text if n == 1 else f"{text} ({n}{TIMES})" for text, n in counts.items()]


class _Album:
    """Samples and pictures, each once however many runs were asked about it."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self._known_samples: dict[str, int] = {}
        self._known_pictures: dict[Path, int | None] = {}
        self._folders: dict[str, dict[str, Asked]] = {}
        self._left_bytes = MOST_PICTURE_BYTES

    def find(self, run: Run) -> dict[str, Asked]:
        """What a run's samples asked; runs share their folders."""
        folder = str(run.record.config.get("dataset"))
        if folder not in self._folders:
            self._folders[folder] = find_asked(run.record)
        return self._folders[folder]

    def add(self, line: dict[str, Any], asked: Asked) -> int:
        references = line.get("references")
        listed = references if isinstance(references, list) else []
        sample = {
            "id": str(line["id"]),
            "question": escape.shorten(asked.request or str(line["prompt"]), LONGEST_ANSWER),
            "references": _count_equal([escape.shorten(str(text)) for text in listed]),
            "picture": None if asked.picture is None else self._add_picture(asked.picture),
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
        content = path.read_bytes()
        if len(content) > self._left_bytes:
            return None
        self._left_bytes -= len(content)
        kind = _MEDIA_TYPES[path.suffix.lower()]
        self.pictures.append(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
        return len(self.pictures) - 1
