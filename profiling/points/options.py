"""The options of a configuration group: the yaml files of its folder in conf/, and their keys."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from profiling import PROJECT
from profiling.errors import ConfigError

CONF = PROJECT / "conf"


@cache
def is_group(key: str) -> bool:
    return (CONF / key).is_dir()


def list_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def takes_several(group: str) -> bool:
    """Whether options stack. The yaml of an option that stands alone begins with its name."""
    return not any(_says_name(path) for path in (CONF / group).glob("*.yaml"))


def _says_name(path: Path) -> bool:
    return "\nname: " in f"\n{path.read_text(encoding='utf-8')}"


def list_families() -> list[str]:
    """The models that come with a checkpoint of their own, and an embedded miniature of it."""
    names = list_options("model")
    return [name for name in names if read_option("model", name)["checkpoint"] is not None]


def describe_options(group: str) -> str:
    listed = ", ".join(list_options(group))
    return f"allowed is one of {listed}" + (", or a list of them" if takes_several(group) else "")


@cache
def read_option(group: str, name: str) -> dict[str, Any]:
    """The yaml of an option: which keys there are, and the values that are shipped."""
    if name not in list_options(group):
        raise ConfigError(f"{group}.name", name, describe_options(group))
    text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content
