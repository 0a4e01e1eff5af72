"""Configurations as the command line composes them, and sample folders made for one test."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from profiling.points.configuration import read_config, read_point
from profiling.points.point import Point

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "conf"


def compose_config(*overrides: str) -> dict[str, Any]:
    """A configuration of its own, that a test may change."""
    return copy.deepcopy(_compose(overrides))


@cache
def _compose(overrides: tuple[str, ...]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return read_config(compose("config", list(overrides)))


def compose_point(*overrides: str) -> Point:
    return read_point(compose_config(*overrides), device="cpu", cores=2)


def make_dataset(folder: Path, *, count: int = 3) -> list[dict[str, Any]]:
    """A sample folder that is right; what its index holds is handed back, to be broken."""
    (folder / "pictures").mkdir(parents=True)
    entries = []
    for number in range(count):
        name = f"pictures/{number}.png"
        Image.new("RGB", (32, 24), (40 * number, 90, 200)).save(folder / name)
        entry = {"image_path": name, "request": f"what is {number}?", "response": str(number)}
        entries.append(entry)
    write_index(folder, entries)
    return entries


def write_index(folder: Path, entries: object) -> None:
    (folder / "samples.json").write_text(json.dumps(entries), encoding="utf-8")
