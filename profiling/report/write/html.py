"""Write all runs as one self-contained page: table, charts, differences, answers, pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from profiling.report.read.pictures import match
from profiling.report.read.runs import Run, Runs, without_cache
from profiling.report.read.sweeps import is_timed, pick_reference, pool_rounds
from profiling.report.say import escape, sentences
from profiling.report.say.marks import explain, explain_rounds
from profiling.report.write.columns import find_scale
from profiling.report.write.html_charts import chart_growth, chart_rooflines
from profiling.report.write.html_pairs import compare_pairs
from profiling.report.write.html_samples import LONGEST_ANSWER, SampleStore
from profiling.report.write.html_table import tabulate

# A page with so much text still opens at once; the page says how many answers are left out.
MOST_ANSWERS = 100_000
FEWEST_ANSWERS_OF_A_RUN = 8


def to_html(found: Runs, *, results: str = "results") -> str:
    """The whole page. It holds records as JSON data or as escaped sentences, never as markup.

    `results` is the folder that a person types to compare two of its runs.
    """
    runs = pool_rounds(found.runs)
    library, script, style = (_asset(name) for name in ("chart.umd.min.js", "page.js", "page.css"))
    parts = {
        "POLICY": _policy([library, script], style),
        "STYLE": style,
        "SCOPE": _emphasize(" ".join(sentences.say_scope(found.runs))),
        "ANSWER": "".join(f"<li>{_emphasize(line)}</li>" for line in _say_models(runs)),
        "MARKS": "".join(f"<li>{line}.</li>" for line in _explain(runs)),
        "DATA": "\n".join(_data_elements(runs, results)),
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


def _emphasize(sentence: str) -> str:
    """What markdown writes in bold; its escapes are valid in HTML too."""
    plain = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", sentence)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", plain)


def _say_models(runs: Sequence[Run]) -> list[str]:
    """What one batch of each model takes, and in which phases."""
    timed = [run for run in runs if is_timed(run)]
    said = []
    for model in sorted({run["model"] for run in timed}):
        own = pick_reference([run for run in timed if run["model"] == model])
        said.append(f"{escape.markdown(model)}: {sentences.say_latency(own)}")
    return said


def _explain(runs: Sequence[Run]) -> list[str]:
    return [
        *explain(runs, estimates=True),
        "Times are medians of one batch end to end; [low, high] is a 95% interval, or of the"
        " confidence that stands behind it. It covers this run, not the variation from run to run",
        *explain_rounds(runs),
        "A speed-up without an interval divides the times of two separate runs. How much equal"
        " runs vary is unknown, so it is no evidence; <code>paired=true</code> measures it",
        "A dash: no value; it is never zero",
    ]


def _data_elements(runs: Sequence[Run], results: str) -> list[str]:
    store = SampleStore()
    most = max(FEWEST_ANSWERS_OF_A_RUN, MOST_ANSWERS // max(1, len(runs)))
    details = [
        _element(f"run-{i}", _describe(run, store, most_answers=most)) for i, run in enumerate(runs)
    ]
    latency = find_scale("latency_s", [run.number("latency_s") for run in runs])
    return [
        _element("data", tabulate(runs)),
        _element("growth", chart_growth(runs, latency)),
        _element("rooflines", chart_rooflines(runs)),
        _element("pairs", compare_pairs(runs, results=results)),
        *details,
        _element("samples", store.samples),
        _element("pictures", store.pictures),
    ]


def _element(name: str, value: object) -> str:
    return f'<script type="application/json" id="{name}">{escape.embedded_json(value)}</script>'


def _describe(run: Run, store: SampleStore, *, most_answers: int) -> dict[str, Any]:
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
