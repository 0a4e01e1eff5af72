"""The front: exactly the points that no other point beats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.report import read_runs
from profiling.report.say.pareto import find_front, group_comparable
from tests.report.synthetic import write_run

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=40)


@given(POINTS)
def test_the_front_is_what_comparing_all_with_all_gives(points: list[tuple[int, ...]]) -> None:
    expected = [
        i
        for i, mine in enumerate(points)
        if not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in points
        )
    ]
    assert find_front([tuple(map(float, point)) for point in points]) == expected


def test_a_known_front() -> None:
    assert find_front([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (2.0, 2.0)]) == [0, 1, 2, 4]


@pytest.mark.parametrize(("other", "groups"), [("one", 1), ("another", 2)])
def test_runs_are_comparable_on_the_same_samples_only(
    tmp_path: Path, other: str, groups: int
) -> None:
    """Name and number of the samples are the same; their content decides."""
    for img_size, digest in ((112, "one"), (224, other)):
        path = write_run(tmp_path, img_size=img_size) / "run.json"
        written = json.loads(path.read_text(encoding="utf-8"))
        written["digests"] = {"code": "c", "samples": digest, "weights": "w"}
        path.write_text(json.dumps(written), encoding="utf-8")
    assert len(group_comparable(read_runs(tmp_path).runs)) == groups


def test_without_digests_the_references_decide(tmp_path: Path) -> None:
    for img_size in (112, 224):
        write_run(tmp_path, img_size=img_size)
    assert len(group_comparable(read_runs(tmp_path).runs)) == 1
    answers = next(tmp_path.glob("*/answers.jsonl"))
    text = answers.read_text(encoding="utf-8")
    answers.write_text(text.replace("sign number 3", "sign number 33"), encoding="utf-8")
    assert len(group_comparable(read_runs(tmp_path).runs)) == 2
