"""Settings that cannot be right are refused in one line, which shows no key and no password."""

from __future__ import annotations

from typing import Any

import pytest

from profiling.engines.endpoint.settings import check
from profiling.errors import ConfigError
from tests.composing import compose_config

GIVEN = ("engine.url=http://localhost:8000/v1", "engine.model=served")


def settings(**changed: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = compose_config("engine=endpoint", *GIVEN)["engine"]
    return chosen | changed


def refusal(**changed: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check(settings(**changed))
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_is_shipped_is_right_once_address_and_model_are_given() -> None:
    check(settings())
    shipped = compose_config("engine=endpoint")["engine"]
    assert (shipped["url"], shipped["model"], shipped["api_key_env"]) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("url", None, "engine.url=null: allowed is an address such as http://localhost:8000/v1"),
        ("url", "localhost:8000", "engine.url=localhost:8000: allowed is an address"),
        ("url", "ftp://host/v1", "engine.url=ftp://host/v1: allowed is an address"),
        ("url", "http:///v1", "engine.url=http:///v1: allowed is an address"),
        ("url", "http://host:99999/v1", "engine.url=…: allowed is an address"),
        ("url", "http://host/v 1", "engine.url=http://host/v 1: allowed is an address"),
        ("model", None, "engine.model=null: allowed is the name that the server has"),
        ("model", " ", "engine.model= : allowed is the name"),
        ("timeout_s", 0, "engine.timeout_s=0: allowed is a number of seconds above 0"),
        ("timeout_s", float("inf"), "engine.timeout_s=inf: allowed is a number of seconds above 0"),
        ("connect_timeout_s", True, "engine.connect_timeout_s=true: allowed is a number"),
        ("retries", -1, "engine.retries=-1: allowed is a whole number from 0 to 100"),
        ("picture_format", "gif", "engine.picture_format=gif: allowed is one of png, jpeg"),
        ("picture_fit", "pad", "engine.picture_fit=pad: allowed is one of area, square, crop"),
        ("picture_filter", "box", "engine.picture_filter=box: allowed is one of nearest, bilin"),
        ("picture_multiple", 0, "engine.picture_multiple=0: allowed is a whole number from 1"),
        ("jpeg_quality", 0, "engine.jpeg_quality=0: allowed is a whole number from 1 to 100"),
        ("length_field", "length", "engine.length_field=length: allowed is one of max_tokens"),
        ("extra_body", "top_k", "engine.extra_body=top_k: allowed are fields by name"),
        ("extra_body", {"n": 2}, "engine.extra_body.n=2: not allowed: the engine sets messages"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: Any, said: str) -> None:
    assert refusal(**{name: value}).startswith(said)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host/v1",
        "http://hunter2@host/v1",
        "http://host/v1?key=hunter2",
        "http://host/v1#hunter2",
    ],
)
def test_an_address_that_may_hold_a_secret_is_not_shown(url: str) -> None:
    text = refusal(url=url)
    assert text.startswith("engine.url=…: ")
    assert "hunter2" not in text


@pytest.mark.parametrize("typed", ["sk-hunter2", "HUNTER2", "", 7])
def test_a_key_in_the_place_of_its_variable_is_not_shown(typed: Any) -> None:
    text = refusal(api_key_env=typed)
    assert text.startswith("engine.api_key_env=…: ")
    assert "hunter2" not in text.lower()


@pytest.mark.parametrize("value", ["", "  ", "two words", "lïne", "a\nb"])
def test_a_key_that_no_header_can_hold_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVED_KEY", value)
    text = refusal(api_key_env="SERVED_KEY")
    assert text.startswith("engine.api_key_env=…: ")
    assert not value.strip() or value not in text


def test_a_key_with_an_end_of_line_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVED_KEY", "sk-123\n")
    check(settings(api_key_env="SERVED_KEY"))


def test_how_pictures_are_sent_comes_from_the_model() -> None:
    names = ("picture_fit", "picture_multiple", "picture_filter")
    composed = {
        model: compose_config("engine=endpoint", f"model={model}", *GIVEN)["engine"]
        for model in ("qwen25vl", "llava", "fuyu")
    }
    found = {model: [chosen[name] for name in names] for model, chosen in composed.items()}
    assert found == {
        "qwen25vl": ["area", 28, "bicubic"],
        "llava": ["crop", 14, "bicubic"],
        "fuyu": ["area", 30, "bilinear"],
    }
