"""Compares the text metrics with values computed by hand."""

from __future__ import annotations

from collections.abc import Iterator

from profiling.quality import Answered, score
from profiling.selfcheck.finding import Finding, compare

# One substitution, one deletion and one insertion in five words; two of ten references that agree.
CAPTION = Answered(id="caption", answer="the dog sat mat today", references=("the cat sat on mat",))
QUESTION = Answered(id="question", answer="red", references=("red", "red", *["blue"] * 8))
OPTION = Answered(id="option", answer="The answer is 2.", references=("2",))


def check_quality() -> Iterator[Finding]:
    known = (
        ("wer", 3 / 5, CAPTION, "first", None),
        ("accuracy", 0.6, QUESTION, "majority", "vqa"),
        ("accuracy", 1.0, OPTION, "first", "option"),
    )
    for metric, expected, answered, headline, accuracy in known:
        readings = score([answered], headline=headline, accuracy=accuracy)
        found = {reading.metric: reading.value for reading in readings}
        yield compare(
            f"quality, {answered.id}: {metric}",
            expected=expected,
            found=found[metric],
            unit="1",
            tolerance=1e-9,
        )
