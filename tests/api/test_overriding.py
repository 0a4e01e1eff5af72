"""Keys with values in Python are the overrides of a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from profiling.api.overriding import write_overrides, write_value
from profiling.errors import ConfigError
from profiling.points.sweeping import list_values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("llava", "llava"),
        (224, "224"),
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        ("true", "'true'"),
        ("1e3", "'1e3'"),
        ("a b", "'a b'"),
        ("it's", "'it\\'s'"),
        (Path("a/b"), "a/b"),
        ([112, 224], "112,224"),
        (range(2, 6, 2), "2,4"),
        (("bf16", "compile"), "[bf16,compile]"),
        (["baseline", ("bf16", "compile")], "baseline,[bf16,compile]"),
    ],
)
def test_values_are_written_as_hydra_reads_them(value: Any, written: str) -> None:
    assert write_value("key", value) == written


@pytest.mark.parametrize(
    "text",
    [
        "a,b",
        "[x]",
        "{y}",
        "it's",
        'say "x"',
        "back\\slash",
        "end\\",
        "a\\'b",
        "a=b",
        "é ü",
        "null",
        "%",
    ],
)
def test_a_text_is_read_back(text: str) -> None:
    (value,) = list_values([f"seed={write_value('seed', text)}"])["seed"]
    (parsed,) = OverridesParser.create().parse_overrides([f"seed={value}"])
    assert parsed.value() == text


def test_texts_come_before_keys_and_lists_are_taken_apart() -> None:
    typed = write_overrides(["seed=1"], {"img_size": [112, 224], "results_dir": "of mine"})
    assert typed == ["seed=1", "img_size=112,224", "results_dir='of mine'"]
    assert list_values(typed)["img_size"] == ["112", "224"]


@pytest.mark.parametrize("one", [3, "--help", "img_size", None, "-m"])
def test_what_is_no_override_is_refused(one: Any) -> None:
    with pytest.raises(ConfigError, match="img_size=224"):
        write_overrides([one], {})


@pytest.mark.parametrize("value", [[], object(), {"a": 1}, b"x", [[1, 2]]])
def test_what_cannot_be_written_is_refused_with_its_key(value: Any) -> None:
    with pytest.raises(ConfigError, match="batch_size="):
        write_value("batch_size", value)
