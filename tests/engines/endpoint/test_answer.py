"""What a stream of events says: its text, and how many tokens had arrived when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiling.engines.endpoint.answer import Answer, Stream
from profiling.engines.endpoint.failures import EndpointError


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> str:
    delta = {} if content is None else {"content": content}
    return json.dumps({"choices": [{"delta": delta, "finish_reason": finish}], **more})


def counted(new: int, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": 9, "completion_tokens": new, **more}}


def read(*events: str) -> Answer:
    """The answer from events that arrive at 10, 20, 30, …"""
    stream = Stream(where="POST x")
    for number, event in enumerate(events):
        stream.take(event, 10 * (number + 1))
    return stream.finish()


def marks(answer: Answer) -> list[tuple[int, int]]:
    return [(mark.moment, mark.tokens) for mark in answer.marks]


def failure(*events: str) -> str:
    with pytest.raises(EndpointError) as error:
        read(*events)
    return str(error.value)


def test_each_event_is_a_token_where_the_server_counts_as_many() -> None:
    role = json.dumps({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    answer = read(role, chunk("a"), chunk("b"), chunk(None, "length", **counted(2)), "[DONE]")
    assert (answer.text, answer.finish, answer.prompt_tokens) == ("ab", "length", 9)
    assert marks(answer) == [(20, 1), (30, 2)]
    assert answer.is_counted and answer.marks_are_exact


def test_the_end_is_a_token_that_arrives_with_the_last_event() -> None:
    answer = read(chunk("a"), chunk("b"), chunk(None, "stop", **counted(3)))
    assert marks(answer) == [(10, 1), (20, 2), (30, 3)]
    assert answer.marks_are_exact


def test_usage_of_every_event_counts_several_tokens_in_one() -> None:
    last = json.dumps({"choices": [], **counted(7)})
    answer = read(
        chunk("a", **counted(1)),
        chunk("bcd", **counted(4)),
        chunk("ef", "stop", **counted(6)),
        last,
    )
    assert marks(answer) == [(10, 1), (20, 4), (30, 6)]
    assert answer.marks_are_exact


def test_a_token_without_text_is_seen_in_the_usage_of_its_event() -> None:
    answer = read(
        chunk("", **counted(1)),
        chunk("a", **counted(2)),
        chunk(None, "stop", **counted(3)),
    )
    assert marks(answer) == [(10, 1), (20, 2), (30, 3)]


def test_a_token_that_only_the_sum_tells_of_arrives_with_the_end() -> None:
    last = json.dumps({"choices": [], **counted(3)})
    answer = read(chunk("a", **counted(1)), chunk("b", **counted(2)), chunk(None, "stop"), last)
    assert marks(answer) == [(10, 1), (20, 2), (30, 3)]
    assert answer.num_tokens == 3


def test_a_usage_of_no_tokens_beside_text_is_no_count() -> None:
    for events in (
        (chunk("a"), chunk("b", "stop", **counted(0))),
        (chunk("a", **counted(0)), chunk("b", "stop", **counted(0))),
    ):
        answer = read(*events)
        assert marks(answer) == [(10, 1), (20, 2)]
        assert not answer.is_counted


def test_a_character_may_be_divided_between_events() -> None:
    halves = [json.dumps("😀")[1:7], json.dumps("😀")[7:13]]
    events = [chunk("@", "stop").replace("@", f"é{half}"[n:]) for n, half in enumerate(halves)]
    assert read(*events).text == "é😀"
    assert read(events[0]).text == "é\N{REPLACEMENT CHARACTER}"


def test_content_may_be_a_list_of_parts() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]
    whole = json.dumps({"choices": [{"delta": {"content": parts}, "finish_reason": "stop"}]})
    assert read(whole).text == "a"


def test_several_tokens_in_one_event_are_spread_where_only_their_sum_is_known() -> None:
    answer = read(chunk("a"), chunk("bc"), chunk("def"), chunk(None, "length", **counted(9)))
    assert [count for _, count in marks(answer)] == [1, 4, 6, 9]
    assert answer.num_tokens == 9
    assert answer.is_counted and not answer.marks_are_exact


def test_one_event_may_hold_everything() -> None:
    answer = read(chunk("all of it", "stop", **counted(5)))
    assert marks(answer) == [(10, 5)]
    apart = read(chunk("all of it"), chunk(None, "stop", **counted(5)))
    assert marks(apart) == [(10, 5)]
    assert not apart.marks_are_exact


def test_events_are_counted_where_there_is_no_usage() -> None:
    answer = read(chunk("a"), chunk("b"), chunk(None, "stop"))
    assert marks(answer) == [(10, 1), (20, 2)]
    assert not answer.is_counted and not answer.marks_are_exact
    assert (answer.prompt_tokens, answer.cached_tokens) == (None, None)


def test_an_answer_may_be_empty() -> None:
    answer = read(chunk(None, "stop", **counted(1)))
    assert (answer.text, marks(answer)) == ("", [(10, 1)])
    assert read(chunk(None, "stop")).num_tokens == 0


def test_thinking_is_made_of_tokens_and_no_part_of_the_answer() -> None:
    thought = json.dumps({"choices": [{"delta": {"reasoning_content": "hm"}}]})
    answer = read(thought, chunk("a"), chunk(None, "stop", **counted(2)))
    assert (answer.text, marks(answer)) == ("a", [(10, 1), (20, 2)])


def test_what_came_from_a_cache_is_read() -> None:
    answer = read(chunk("a", "stop", **counted(1, prompt_tokens_details={"cached_tokens": 6})))
    assert answer.cached_tokens == 6


def test_the_first_log_probability_is_kept() -> None:
    listed = [[{"logprob": -0.25}], [{"logprob": -0.5}]]
    events = [
        json.dumps({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": one}}]})
        for one in listed
    ]
    assert read(*events, chunk(None, "stop")).first_logprob == -0.25
    sure = events[0].replace("-0.25", "0.0")
    assert read(sure, events[1], chunk(None, "stop")).first_logprob == 0
    assert read(chunk("a"), chunk(None, "stop")).first_logprob is None


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((chunk("a"),), "the stream broke off after 1 events"),
        ((), "the stream broke off after 0 events"),
        (("[DONE]",), "the answer has no choices"),
        ((json.dumps(counted(3)), "[DONE]"), "the answer has no choices"),
        (("{'a'",), "an event is not JSON: {'a'"),
        (("[]",), "an event is not an object: []"),
        (('{"choices": 7}',), "choices of an event are no list"),
        (('{"choices": ["a"]}',), "choices of an event are no list"),
        ((chunk("a"), '{"error": {"message": "no memory"}}'), "after 1 events: no memory"),
        (('{"error": "it broke"}',), "the server failed after 0 events: it broke"),
        (('{"code": 500, "message": "slot is gone"}',), "the server failed: slot is gone"),
    ],
)
def test_a_stream_that_is_wrong_is_one_line(events: tuple[str, ...], said: str) -> None:
    text = failure(*events)
    assert text.startswith("POST x: ") and said in text
    assert "\n" not in text
