"""VQA and option accuracy against the official rule and hand-made answers."""

from __future__ import annotations

import pytest

from profiling.quality import Answered, score
from profiling.quality.option_accuracy import parse_option
from profiling.quality.vqa_accuracy import RESTORED, judge_answer, normalize_answer
from profiling.records import Reading


def read(answers: list[Answered], accuracy: str) -> dict[str, Reading]:
    found = score(answers, headline="majority", accuracy=accuracy)
    return {reading.metric: reading for reading in found}


def answer(*texts: str) -> Answered:
    return Answered(id=texts[0], answer=texts[0], references=texts[1:])


# VQA


@pytest.mark.parametrize(
    ("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_ten_people_by_the_official_rule(agreeing: int, accuracy: float) -> None:
    others = [f"other{number}" for number in range(10 - agreeing)]
    assert judge_answer("stop", ["stop"] * agreeing + others) == pytest.approx(accuracy)


@pytest.mark.parametrize("people", range(1, 13))
def test_full_agreement_is_one_for_any_number_of_people(people: int) -> None:
    assert judge_answer("Stop.", ["stop"] * people) == 1.0
    assert judge_answer("go", ["stop"] * people) == 0.0


@pytest.mark.parametrize(
    ("people", "agreeing"), [(people, k) for people in range(2, 12) for k in range(people + 1)]
)
def test_the_short_form_is_the_leave_one_out_mean(people: int, agreeing: int) -> None:
    references = ["yes"] * agreeing + ["no"] * (people - agreeing)
    enough = min(3, people - 1)
    left_out = [references[:at] + references[at + 1 :] for at in range(people)]
    expected = sum(min(1, others.count("yes") / enough) for others in left_out) / people
    assert judge_answer("yes", references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "processed"),
    [
        ("The Stop Sign.", "stop sign"),
        ("two dogs", "2 dogs"),
        ("None", "0"),
        ("dont", "don't"),
        ("1,000", "1000"),
        ("3.5 miles", "3.5 miles"),
        ("coca-cola", "coca cola"),
        ("yes - no", "yes no"),
        ("e.g. this", "eg this"),
        ("it's", "it 's"),
        ("line\nbreak\tand tab", "line break and tab"),
        ("(stop)", "stop"),
        ("up-on;-off", "up on off"),
        ("why?", "why"),
    ],
)
def test_answers_are_processed_the_official_way(text: str, processed: str) -> None:
    assert normalize_answer(text) == processed


def test_contractions_regain_exactly_one_apostrophe() -> None:
    assert len(RESTORED) == 113
    assert RESTORED["cant"] == "can't"
    assert RESTORED["hed've"] == RESTORED["he'dve"] == "he'd've"
    assert not RESTORED.keys() & {"its", "were", "well", "ill", "hell", "wed"}


def test_vqa_accuracy_is_the_mean_over_samples_and_names_itself() -> None:
    answers = [
        answer("STOP", *["stop"] * 2, *["go"] * 8),
        answer("Two", *["2"] * 10),
        Answered(id="c", answer="x", references=()),
    ]
    found = read(answers, "vqa")
    assert found["accuracy"].value == pytest.approx((0.6 + 1) / 2)
    assert found["accuracy"].source == "vqa_accuracy"
    low, high = found["accuracy_ci_low"].value, found["accuracy_ci_high"].value
    assert low is not None and high is not None and 0 < low < 0.8 < high < 1
    assert "vqa-answer-1" in found["accuracy_ci_low"].source
    assert "option_parse_failure_rate" not in found


# Options


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("2", "2"),
        ("(2)", "2"),
        ("2.", "2"),
        ("[0]", "0"),
        ("**3**", "3"),
        ("02", "2"),
        ("2. red", "2"),
        ("2 because it is tall", "2"),
        ("The answer is 2.", "2"),
        ("Answer: (1)", "1"),
        ("the answer is option 4", "4"),
        ("1 is wrong, so the answer is 2", "2"),
        ("The answer is 1. No, the answer is 3.", "3"),
        ("I would say (2), the tall one", "2"),
        ("B", "B"),
        ("b)", "B"),
        ("(c) a dog", "C"),
        ("The correct answer is: D", "D"),
    ],
)
def test_an_option_is_found(text: str, option: str) -> None:
    assert parse_option(text) == option


NO_OPTION = """
red | A cat | I think so | the answer is a dog | 100 | 2.5 m | 10:30 | -1 | either (1) or (2) | 2nd
| 50% | there are 3 of them | x
"""


@pytest.mark.parametrize("text", ["", *map(str.strip, NO_OPTION.split("|"))])
def test_where_no_option_is_named_none_is_made_up(text: str) -> None:
    assert parse_option(text) is None


def test_option_accuracy_counts_failures_as_wrong() -> None:
    answers = [
        answer("2", "2"),
        answer("The answer is (1)", "1. red"),
        answer("3", "0"),
        answer("the tall one", "1"),
        answer("1", "no option here"),
    ]
    found = read(answers, "option")
    assert found["accuracy"].value == 0.5
    assert found["accuracy"].source == "option_accuracy"
    assert found["option_parse_failure_rate"].value == 0.25


def test_letters_are_judged_where_references_are_letters() -> None:
    found = read([answer("(b) red", "B"), answer("answer is C", "A")], "option")
    assert found["accuracy"].value == 0.5


def test_no_judgeable_sample_is_unavailable() -> None:
    found = read([answer("2", "red")], "option")
    assert found["accuracy"].value is None
    assert found["accuracy"].status == "unavailable"
    assert found["option_parse_failure_rate"].value is None
