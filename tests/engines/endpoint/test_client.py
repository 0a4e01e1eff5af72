"""Every way in which a server refuses or breaks is one line; what it asks for is repeated."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from profiling.engines.endpoint.client import Client, is_loopback
from profiling.engines.endpoint.failures import EndpointError
from profiling.engines.trace import HostClock
from tests.composing import compose_config
from tests.engines.endpoint.scripted_server import (
    GIVEN,
    MODEL,
    Reply,
    Server,
    as_json,
    chunk,
    event,
    refuse,
    stream,
)

KEY = "sk-hunter2-0123456789"
BODY = {"model": MODEL, "messages": [], "stream": True}


class Sleeps(list[float]):
    """Pauses that nobody waits for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def connect(url: str, *, key: str | None = KEY, **settings: Any) -> tuple[Client, Sleeps]:
    sleeps = Sleeps()
    chosen = compose_config("engine=endpoint", *GIVEN)["engine"] | {"url": url} | settings
    return Client(chosen, key=key, clock=HostClock(), sleep=sleeps), sleeps


def ask(server: Server, **settings: Any) -> str:
    client, _ = connect(server.url, **settings)
    return client.ask(BODY).text


def failure(server: Server, **settings: Any) -> str:
    with pytest.raises(EndpointError) as error:
        ask(server, **settings)
    text = str(error.value)
    assert "\n" not in text and KEY not in text
    assert text.startswith(f"POST {server.url}/chat/completions: ")
    # Nothing that the error is raised from could show more.
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


def always(server: Server, reply: Reply) -> None:
    server.chat = lambda _: reply


def test_the_answer_comes_and_the_key_goes_in_the_header(server: Server) -> None:
    always(server, stream(["a", "b"], count=2))
    assert ask(server) == "ab"
    (_, headers, body) = server.asked[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Accept-Encoding"] == "identity"
    assert body == BODY


def test_no_key_is_sent_where_none_is_named(server: Server) -> None:
    always(server, stream(["a"], count=1))
    ask(server, key=None)
    assert "Authorization" not in server.asked[0][1]


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, "no such key", "status 401: the server refuses the API key, or wants one (engine"),
        (403, f"{KEY} may not", "refuses the API key, or wants one (engine.api_key_env): *** may"),
        (400, "top_k is unknown", "status 400: the server answers with bad request: top_k is unk"),
        (400, "the context length is 64 tokens", "longer than the context of the served model: t"),
        (422, "temperature: too hot", "status 422: the server answers with unprocessable"),
        (500, "CUDA out of memory", "status 500: the server answers with internal server error"),
        (599, "?", "status 599: the server answers with an unknown status: ?"),
    ],
)
def test_a_refusal_says_why(server: Server, status: int, message: str, said: str) -> None:
    always(server, refuse(status, message))
    assert said in failure(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "no room"}}',
        '{"error": "no room", "error_type": "overloaded"}',
        '{"object": "error", "message": "no room", "code": 40303}',
        '{"detail": "no room"}',
        '{"detail": [{"loc": ["body"], "msg": "no room"}]}',
        "no room",
    ],
)
def test_the_words_of_every_kind_of_server_are_found(server: Server, body: str) -> None:
    always(server, Reply(status=400, body=body))
    assert failure(server).endswith("bad request: no room")


def test_a_long_page_of_a_proxy_is_cut(server: Server) -> None:
    always(server, Reply(status=502, body="<html>\n" + "bad gateway " * 200))
    assert len(failure(server)) < 450


def test_a_missing_model_is_answered_with_those_that_are_there(server: Server) -> None:
    always(server, refuse(404, "The model does not exist"))
    server.routes["/v1/models"] = as_json({"data": [{"id": "this"}, {"id": "that"}]})
    text = failure(server)
    assert f"engine.model={MODEL} is not there, it has this, that: The model does not" in text
    server.routes["/v1/models"] = as_json({"data": [{"id": f"m{n}"} for n in range(30)]})
    assert "it has m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, …" in failure(server)
    server.routes["/v1/models"] = as_json({"models": "none"})
    assert "it lists no models; is engine.url right?" in failure(server)


def test_a_redirection_is_not_followed_with_the_key(server: Server) -> None:
    location = f"{server.root}/v2/chat/completions?token=hunter2"
    always(server, Reply(status=307, body="", headers={"Location": location}))
    text = failure(server)
    assert f"redirects to {server.root}/v2/chat/completions; give the final address" in text
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"]


def test_no_server(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    client, _ = connect(url)
    with pytest.raises(EndpointError, match=r"no server answers there: .*refused"):
        client.ask(BODY)
    assert client.look_up("/version") is None
    assert client.list_models() == []


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def test_a_server_that_hangs(silent: str) -> None:
    client, _ = connect(silent, timeout_s=0.2)
    with pytest.raises(EndpointError, match=r"within engine\.timeout_s=0\.2 \(0 events came\)"):
        client.ask(BODY)


def test_a_server_that_hangs_in_the_middle(server: Server) -> None:
    held = threading.Event()
    always(server, Reply(events=[chunk("a"), chunk("b")], held=held))
    assert "within engine.timeout_s=0.3 (2 events came)" in failure(server, timeout_s=0.3)
    held.set()


def test_a_server_that_goes_on_for_ever(server: Server) -> None:
    """It is never silent for long, so that only the whole time tells."""
    always(server, Reply(events=[": still here\n\n"] * 200, pause_s=0.02))
    assert "within engine.timeout_s=0.3" in failure(server, timeout_s=0.3)


def test_a_stream_that_breaks_off(server: Server) -> None:
    always(server, Reply(events=[chunk("a"), chunk("b")], is_cut=True))
    assert "the stream broke off after 2 events" in failure(server)
    always(server, Reply(events=[chunk("a"), chunk("b")]))
    assert failure(server).endswith("the stream broke off after 2 events")


def test_a_connection_that_is_closed_after_the_end_is_right(server: Server) -> None:
    always(server, Reply(events=[chunk("a"), chunk(None, finish="stop")], is_cut=True))
    assert ask(server) == "a"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(events=[event("{nope")]), "an event is not JSON: {nope"),
        (Reply(events=[event("[DONE]")]), "the answer has no choices"),
        (Reply(events=[chunk("a"), event({"error": {"message": f"{KEY}!"}})]), "1 events: ***!"),
        (Reply(body='{"choices": []}'), "the server does not stream its answer"),
        (Reply(body=""), "the server does not stream its answer"),
    ],
)
def test_what_is_no_stream_of_an_answer(server: Server, reply: Reply, said: str) -> None:
    always(server, reply)
    assert said in failure(server)


def test_a_key_that_is_repeated_in_an_answer_is_hidden(server: Server) -> None:
    always(server, stream([f"you said {KEY}"], count=1))
    assert ask(server) == "you said ***"


# Repeating


def then(server: Server, *replies: Reply) -> None:
    left = list(replies)
    server.chat = lambda _: left.pop(0)


LIMITED = refuse(429, "slowly")
RIGHT = stream(["a"], count=1)


def test_a_limited_request_is_sent_again_after_a_pause(server: Server) -> None:
    then(server, LIMITED, refuse(503, "loading"), LIMITED, RIGHT)
    client, sleeps = connect(server.url)
    assert client.ask(BODY).text == "a"
    assert sleeps == [0.5, 1.0, 2.0]
    assert client.num_repeated == 3
    assert server.bodies == [BODY] * 4


def test_the_server_says_how_long_to_wait_and_the_settings_how_long_at_most(
    server: Server,
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    asked = ["3", "0.25", "9000", "-1", past, "soon", soon]
    then(server, *(refuse(429, "slowly", Retry_After=one) for one in asked), RIGHT)
    client, sleeps = connect(server.url, retries=7, longest_pause_s=40)
    client.ask(BODY)
    assert sleeps[:6] == [3, 0.25, 40, 0, 0, 16]
    assert 0 < sleeps[6] <= 30


def test_repeating_ends(server: Server) -> None:
    always(server, refuse(429, "tomorrow"))
    client, sleeps = connect(server.url, retries=2)
    with pytest.raises(EndpointError, match=r"status 429: the server still limits.*: tomorrow"):
        client.ask(BODY)
    assert len(server.asked) == 3 and len(sleeps) == 2
    always(server, refuse(503, "loading"))
    assert "status 503: the server answers with service unavailable: loading" in failure(
        server, retries=0
    )


# What else could show the key


def test_nothing_shows_the_key(server: Server) -> None:
    client, _ = connect(server.url)
    shown = [repr(client), str(client), repr(client.settings), repr(client._http.headers)]
    assert not [text for text in shown if "hunter2" in text]


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.2/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://example.org/v1", False),
        ("http://10.0.0.1/v1", False),
    ],
)
def test_loopback(url: str, is_local: bool) -> None:
    assert is_loopback(url) == is_local


def test_looking_up_tells_what_is_there(server: Server) -> None:
    server.routes["/version"] = as_json({"version": "1"})
    server.routes["/metrics"] = Reply(body="text 1")
    server.routes["/tokenize"] = lambda body: as_json({"tokens": [body["prompt"]]})
    client, _ = connect(server.url)
    assert client.look_up("/version") == {"version": "1"}
    assert client.look_up("/metrics") == "text 1"
    assert client.look_up("/nothing") is None
    assert client.send("/tokenize", {"prompt": "x"}) == {"tokens": ["x"]}
    assert client.send("/nothing", {}) is None
