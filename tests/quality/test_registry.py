"""How metrics make themselves known and what they may touch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from profiling.quality import Answered, find_metrics, metric, score
from profiling.quality.normalizing import read_off
from profiling.quality.registry import METRICS, always

SAID = [Answered(id="1", answer="bus", references=("bus",))]


def test_every_metric_of_the_folder_is_found() -> None:
    names = {"bleu4", "cer", "cider_d", "empty_references", "reference_nll", "rouge_l", "wer"}
    assert find_metrics().keys() == names | {"vqa_accuracy", "option_accuracy"}


def test_a_decorated_function_is_all_that_a_metric_is() -> None:
    try:

        @metric("length", applies=always)
        def measure_length(answers, judging):
            return [read_off("length", len(answers[0].answer), judging.headline)]

        found = {r.metric: r.value for r in score(SAID, headline="first", accuracy="vqa")}
    finally:
        METRICS.pop("length")
    assert found["length"] == 3


def test_two_metrics_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="wer"):
        metric("wer", applies=always)(lambda answers, judging: [])


@pytest.mark.parametrize(("headline", "accuracy"), [("last", None), ("first", "bleu"), ("", "vqa")])
def test_an_unknown_way_of_judging_is_refused(headline: str, accuracy: str | None) -> None:
    with pytest.raises(ValueError, match="one of"):
        score(SAID, headline=headline, accuracy=accuracy)


@pytest.mark.parametrize("accuracy", [None, "vqa", "option"])
def test_every_reading_is_an_aggregate_of_the_run_with_a_source(accuracy: str | None) -> None:
    found = score(SAID, headline="first", accuracy=accuracy)
    assert len({reading.metric for reading in found}) == len(found)
    for reading in found:
        assert (reading.phase, reading.unit) == ("run", "1")
        assert reading.is_aggregate and reading.source


def test_quality_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from profiling.quality import Answered, score;"
        "said = [Answered(id=str(n), answer='a bus', references=('a bus',)) for n in range(2)];"
        "[score(said, headline='first', accuracy=a) for a in (None, 'vqa', 'option')];"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
