"""Settings of engines: which engine there is, what its room checks, and what is never shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import profiling.engines
from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.points import options
from profiling.points.configuration import read_point
from profiling.points.options import CONF, list_options, read_option
from profiling.points.overrides import explain
from profiling.points.point import DEFAULT_ENGINE, Point
from profiling.points.settings import Settings, check_by_room
from tests.composing import compose_config, compose_point

TOY = """\
name: toy
room: toys
url: null
retries: 3
api_key_env: null
"""
CHECK = """\
def check(settings):
    settings.require_text("url", "the address of a server, such as http://localhost:8000/v1")
    settings.require_whole("retries", at_least=1)
"""
GIVEN = {"name": "toy", "room": "toys", "url": "http://here/v1", "retries": 3, "api_key_env": None}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine of one yaml and one folder."""
    conf, room = tmp_path / "conf", tmp_path / "engines" / "toys"
    conf.mkdir()
    for path in CONF.iterdir():
        if path.name != "engine":
            (conf / path.name).symlink_to(path)
    (conf / "engine").mkdir()
    (conf / "engine" / "toy.yaml").write_text(TOY, encoding="utf-8")
    room.mkdir(parents=True)
    (room / "__init__.py").touch()
    (room / "settings.py").write_text(CHECK, encoding="utf-8")
    monkeypatch.setattr(options, "CONF", conf)
    monkeypatch.setattr(profiling.engines, "__path__", [str(room.parent)])
    read_option.cache_clear()
    yield
    read_option.cache_clear()
    for name in ("profiling.engines.toys", "profiling.engines.toys.settings"):
        sys.modules.pop(name, None)


def read_toy(**typed: Any) -> Point:
    config = compose_config() | {"engine": GIVEN | typed}
    return read_point(config, device="cpu", cores=2)


def refuse_toy(**typed: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        read_toy(**typed)
    return str(refusal.value)


def test_an_engine_is_a_yaml_and_a_folder(toy: None) -> None:
    point = read_toy()
    assert (point.engine, point.engine_settings) == ("toy", GIVEN)
    assert point.as_config()["engine"] == GIVEN
    assert point.as_columns()["engine"] == "toy"
    assert point.label() == "qwen25vl toy baseline textvqa img_size=112 batch_size=1"
    assert point.load_key != read_toy(url="http://there/v1").load_key


def test_what_has_to_be_given_is_asked_for(toy: None) -> None:
    line = "allowed is the address of a server, such as http://localhost:8000/v1"
    assert refuse_toy(url=None) == f"engine.url=null: {line}"
    assert refuse_toy(url=" ") == f"engine.url= : {line}"


def test_the_room_of_an_engine_checks_its_settings(toy: None) -> None:
    assert refuse_toy(retries=0) == "engine.retries=0: allowed is a whole number from 1"
    assert refuse_toy(retries="x") == "engine.retries=x: allowed is a whole number from 0"
    assert refuse_toy(nope=1).startswith(
        "engine.nope=1: unknown key; allowed are engine.name, engine.room, engine.url"
    )
    assert refuse_toy(room="transformers") == "engine.room=transformers: allowed is toys"
    assert refuse_toy(name="nope") == "engine.name=nope: allowed is one of toy"


def test_a_secret_is_a_variable_and_is_never_shown(
    toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOY_KEY", raising=False)
    line = "engine.api_key_env=…: allowed is the name of an environment variable that is set"
    for typed in ("TOY_KEY", "sk-123", "hunter2", "", 7):
        assert refuse_toy(api_key_env=typed) == line
    monkeypatch.setenv("TOY_KEY", "sk-123")
    point = read_toy(api_key_env="TOY_KEY")
    assert point.as_config()["engine"]["api_key_env"] == "TOY_KEY"
    assert "sk-123" not in repr(point)
    assert "sk-123" not in refuse_toy(api_key="sk-123")


def test_a_secret_is_not_shown_where_hydra_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "engine.api_key=sk-123"])
    complaint = ValueError("Could not override 'engine.api_key'.")
    assert explain(complaint).startswith("engine.api_key=…: unknown key; allowed are engine.name")


@pytest.mark.parametrize("engine", list_options("engine"))
def test_every_engine_has_a_room(engine: str) -> None:
    shipped = read_option("engine", engine)
    assert shipped["name"] == engine
    assert (PROJECT / "profiling" / "engines" / shipped["room"] / "__init__.py").is_file()


def test_the_default_engine_is_not_named_in_a_label() -> None:
    point = compose_point()
    assert point.engine == DEFAULT_ENGINE
    assert DEFAULT_ENGINE not in point.label()
    assert point.as_columns()["engine"] == DEFAULT_ENGINE


def test_a_room_without_rules_checks_nothing() -> None:
    settings = Settings(place="engine", chosen={}, shipped={})
    for module in ("profiling.engines.nowhere.settings", "profiling.engines.transformers.nothing"):
        check_by_room(module, settings)
