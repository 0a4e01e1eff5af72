"""What the serving command hands to the library's server; slow tests ask a server that runs."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

from profiling.engines.transformers.serve import make_processor, parse, serve
from profiling.errors import ConfigError
from tests.composing import PROJECT
from tests.tiny_models import FAMILIES

CHECKPOINTS = PROJECT / "checkpoints" / "tiny"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server was started with; it is not started."""
    started: dict[str, Any] = {}
    for name in ("transformers.cli", "transformers.cli.serve"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(
        sys.modules["transformers.cli.serve"], "Serve", started.update, raising=False
    )
    original = transformers.AutoProcessor.from_pretrained
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", original)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: started.update(threads=count))
    return started


def start(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", *words])
    serve(parse())


def test_the_embedded_checkpoint_is_served_on_this_machine_only(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch, "--model", "qwen25vl", "--port", "8123", "--threads", "3")
    folder = str(CHECKPOINTS / "qwen25vl")
    assert (told["force_model"], told["host"], told["port"]) == (folder, "127.0.0.1", 8123)
    assert (told["device"], told["dtype"], told["threads"]) == ("cpu", "auto", 3)
    typed = f"engine=endpoint engine.url=http://127.0.0.1:8123/v1 engine.model={folder}"
    assert capsys.readouterr().out.strip() == typed
    processor = transformers.AutoProcessor.from_pretrained("whatever the server asks for")
    assert processor.image_processor.do_resize is False


def test_a_folder_of_another_family_is_refused(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="model_type fuyu"):
        start(monkeypatch, "--model", "llava", "--folder", str(CHECKPOINTS / "fuyu"))
    assert told == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_resized_only_where_it_is_asked_for(family: str) -> None:
    folder = CHECKPOINTS / family
    stored = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    resizing = make_processor(family, folder, resize=True).image_processor
    assert resizing.do_resize == stored.get("do_resize", True)
    assert make_processor(family, folder, resize=False).image_processor.do_resize is False
