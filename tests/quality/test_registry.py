"""How text metrics register themselves, declare what they give, and what they may import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiling import metrics
from profiling.metrics import ANSWERS, catalog
from profiling.quality import Answered, find_applicable, find_metrics, metric, score, score_nothing
from profiling.quality.registry import METRICS, Judging, always
from profiling.records import MEASURED, UNAVAILABLE, reading
from tests.composing import PROJECT

SAID = [Answered(id="1", answer="bus", references=("bus",))]
EVERY_ACCURACY = pytest.mark.parametrize("accuracy", [None, "vqa", "option"])


@pytest.fixture
def restored() -> Iterator[None]:
    """Removes what a test registers."""
    find_metrics()
    kept = [(own, dict(own)) for own in (METRICS, catalog._METRICS, catalog._OWN_ENTRIES)]
    yield
    for own, before in kept:
        own.clear()
        own.update(before)


def test_every_file_with_a_text_metric_is_found() -> None:
    files = (PROJECT / "profiling" / "quality").glob("*.py")
    written = {path.stem for path in files if "\n@metric(" in path.read_text(encoding="utf-8")}
    found = {found.score.__module__.rpartition(".")[2] for found in find_metrics().values()}
    assert found == written
    assert {"wer", "cer", "reference_nll"} <= written


@pytest.mark.usefixtures("restored")
def test_a_decorated_function_is_all_that_a_metric_is() -> None:
    @metric("length", applies=always)
    def measure_length(answers, judging):
        """Characters of the first answer."""
        return [
            reading(
                "length", value=len(answers[0].answer), status=MEASURED, source=judging.headline
            )
        ]

    found = {r.metric: r.value for r in score(SAID, headline="first", accuracy="vqa")}
    assert found["length"] == 3
    declared = metrics.find("length")
    assert (declared.unit, declared.phase, declared.title) == ("1", "run", "length")
    assert "length" in metrics.list_shown(ANSWERS)
    (entry,) = catalog.list_own_entries()
    assert entry.definition == "Characters of the first answer."


@pytest.mark.usefixtures("restored")
def test_a_metric_is_declared_once() -> None:
    own = metrics.Entry(
        metrics=(metrics.find("wer"),), definition="", method="", uncertainty="", limits=""
    )
    with pytest.raises(ValueError, match="wer"):
        metric("length", applies=always, declares=[own])(lambda answers, judging: [])


def test_two_metrics_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="wer"):
        metric("wer", applies=always)(lambda answers, judging: [])


@pytest.mark.parametrize(("headline", "accuracy"), [("last", None), ("first", "bleu"), ("", "vqa")])
def test_an_unknown_way_of_judging_is_refused(headline: str, accuracy: str | None) -> None:
    with pytest.raises(ValueError, match="one of"):
        score(SAID, headline=headline, accuracy=accuracy)


@EVERY_ACCURACY
def test_every_reading_is_an_aggregate_as_its_metric_declares(accuracy: str | None) -> None:
    found = score(SAID, headline="first", accuracy=accuracy)
    assert len({row.metric for row in found}) == len(found)
    for row in found:
        declared = metrics.find(row.metric)
        assert (row.phase, row.unit) == (declared.phase, declared.unit)
        assert row.is_aggregate and row.source


# Also where nothing can be judged: a missing row would give no reason.
@EVERY_ACCURACY
@pytest.mark.parametrize("answers", [SAID, [], [Answered(id="1", answer="a", references=("?",))]])
def test_a_text_metric_gives_the_rows_that_it_declares(
    accuracy: str | None, answers: list[Answered]
) -> None:
    for name, found in find_applicable(headline="majority", accuracy=accuracy).items():
        names = {declared.name for declared in metrics.list_given(name)}
        judging = Judging(headline="majority", accuracy=accuracy)
        given = {row.metric for row in found.score(answers, judging)}
        assert given == names, name


@EVERY_ACCURACY
def test_without_answers_every_row_is_there_with_the_reason(accuracy: str | None) -> None:
    judged = score(SAID, headline="first", accuracy=accuracy)
    absent = score_nothing("random values answer nothing", headline="first", accuracy=accuracy)
    assert sorted(row.metric for row in absent) == sorted(row.metric for row in judged)
    for row in absent:
        assert (row.value, row.status) == (None, UNAVAILABLE)
        assert row.source == "random values answer nothing"


OWN_FILE = '''
"""How many words an answer has."""

from profiling.metrics import ANSWERS, NEITHER, Entry, quality
from profiling.quality.registry import always, metric
from profiling.records import MEASURED, reading


@metric(
    "answer_words",
    applies=always,
    declares=[
        Entry(
            metrics=(
                quality(
                    name="answer_words",
                    title="words per answer",
                    better=NEITHER,
                    given_by=("answer_words",),
                    tables=frozenset({ANSWERS}),
                ),
            ),
            definition="mean number of words",
            method="counted",
            uncertainty="exact",
            limits="none",
        )
    ],
)
def count_words(answers, judging):
    words = sum(len(answered.answer.split()) for answered in answers)
    yield reading("answer_words", value=words / len(answers), status=MEASURED, source="counted")
'''

USES = """
import sys
from pathlib import Path
from profiling import metrics
from profiling.report import read_runs
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_run

# the report knows the title although nothing has imported the text metrics
assert "profiling.quality" not in sys.modules
write_run(Path("results"), summary={"answer_words": 2.5})
index = write_pages(read_runs(Path("results")), Path("pages"), command="x")
page = (index.parent / "llava.md").read_text()
print([line for line in page.splitlines() if "words per" in line])

from profiling.metrics.columns_page import write_page
from profiling.metrics.catalog import list_own_entries
from profiling.quality import Answered, find_applicable, score, score_nothing

judging = {"headline": "first", "accuracy": None}
said = [Answered(id="1", answer="a red bus", references=("bus",))]
print([row.value for row in score(said, **judging) if row.metric == "answer_words"])
print([row.source for row in score_nothing("no", **judging) if row.metric == "answer_words"])
config = {"profiler": {"probes": {}}}
print("answer_words" in metrics.expected(config, text_metrics=find_applicable(**judging)))
print("mean number of words" in write_page(list_own_entries()))
print("answer_words" in metrics.SUMMARY_COLUMNS)
"""


def test_a_new_file_is_all_that_a_new_metric_needs(tmp_path: Path) -> None:
    for name in ("profiling", "tests"):
        shutil.copytree(
            PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    own = tmp_path / "profiling" / "quality" / "answer_words.py"
    own.write_text(OWN_FILE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", USES], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown, *rest = done.stdout.splitlines()
    assert "words per answer" in shown
    assert rest == ["[3.0]", "['no']", "True", "True", "False"]


def test_quality_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from profiling.quality import Answered, score;"
        "said = [Answered(id=str(n), answer='a bus', references=('a bus',)) for n in range(2)];"
        "[score(said, headline='first', accuracy=a) for a in (None, 'vqa', 'option')];"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
