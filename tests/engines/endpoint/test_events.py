"""Events are put together again however their bytes were cut apart on the way."""

from __future__ import annotations

import pytest

from profiling.engines.endpoint.events import EventDecoder

SENT = (
    b": a comment\n\nid: 7\r\ndata: one\r\n\r\nevent: x\ndata: two\ndata:three\n\n"
    b'data: {"a": "\xc3\xa4"}\n\nretry: 5\n\nerror: late\n\ndata: last'
)
EVENTS = ["one", "two\nthree", '{"a": "ä"}', "late", "last"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 1000])
def test_events_do_not_depend_on_how_they_arrive(size: int) -> None:
    decoder, found = EventDecoder(), []
    for start in range(0, len(SENT), size):
        found += decoder.feed(SENT[start : start + size])
    assert found == EVENTS[:-1]
    assert [*found, *decoder.finish()] == EVENTS


def test_an_event_is_given_as_soon_as_it_is_whole() -> None:
    decoder = EventDecoder()
    assert list(decoder.feed(b"data: a\n")) == []
    assert list(decoder.feed(b"\ndata: b")) == ["a"]
    assert list(decoder.feed(b"\n\n")) == ["b"]
    assert list(decoder.finish()) == []
