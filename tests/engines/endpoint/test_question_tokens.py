"""Questions of an exact length by the tokenizer of each kind of server."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from profiling.engines.endpoint.client import Client
from profiling.engines.endpoint.question_tokens import QuestionTokens
from profiling.engines.trace import HostClock
from profiling.errors import ConfigError, Unsupported
from tests.engines.endpoint.scripted_server import Body, Reply, Server, as_json

QUESTION = "what is written on the sign, please?"


def split(text: str) -> list[str]:
    return re.findall(r" ?\w{1,5}|\W", text)


def like_vllm(body: Body) -> Any:
    found = split(body["prompt"])
    return {"count": len(found), "max_model_len": 64, "tokens": list(range(len(found)))}


def like_llama_cpp(body: Body) -> Any:
    return {"tokens": list(range(len(split(body["content"]))))}


def like_tgi(body: Body) -> Any:
    return [{"id": n, "text": text} for n, text in enumerate(split(body["inputs"]))]


KINDS = (like_vllm, like_llama_cpp, like_tgi)


def tokens(server: Server, kind: Callable[[Body], Any] | None) -> QuestionTokens:
    if kind is not None:
        server.routes["/tokenize"] = lambda body: as_json(kind(body))
    settings = server.point().engine_settings
    return QuestionTokens(Client(settings, key=None, clock=HostClock()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 5, 9, 10, 40])
def test_a_question_is_cut_or_filled_up(
    server: Server, kind: Callable[[Body], Any], length: int
) -> None:
    counter = tokens(server, kind)
    fitted = counter.fit(QUESTION, length)
    assert counter.count(fitted) == len(split(fitted)) == length
    if length < len(split(QUESTION)):
        assert QUESTION.startswith(fitted)
    else:
        assert fitted.endswith(QUESTION)


def test_a_text_is_counted_once(server: Server) -> None:
    counter = tokens(server, like_vllm)
    before = len(server.asked)
    assert [counter.count("a b") for _ in range(3)] == [2, 2, 2]
    assert len(server.asked) == before + 1


def test_special_tokens_are_not_asked_for(server: Server) -> None:
    tokens(server, like_vllm).count("a")
    body = server.asked[-1][2]
    assert body["add_special_tokens"] is False and body["add_special"] is False


@pytest.mark.parametrize("answer", [None, {"tokens": "two"}, "text", 3])
def test_without_a_tokenizer_there_is_no_length(server: Server, answer: Any) -> None:
    kind = None if answer is None else lambda _: answer
    counter = tokens(server, kind)
    assert counter.count("a") is None
    with pytest.raises(Unsupported, match="prompt_len needs the server's tokenizer"):
        counter.fit(QUESTION, 4)


def test_a_tokenizer_that_fails_later(server: Server) -> None:
    counter = tokens(server, like_vllm)
    server.routes["/tokenize"] = Reply(status=500, body="gone")
    with pytest.raises(Unsupported, match="stopped"):
        counter.fit(QUESTION, 4)


def test_a_length_that_no_words_fill(server: Server) -> None:
    counter = tokens(server, lambda body: {"count": 2 * len(split(body["prompt"]))})
    with pytest.raises(ConfigError, match="prompt_len=5: "):
        counter.fit(QUESTION, 5)
