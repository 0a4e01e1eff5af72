"""Configurations as the command line composes them, and sample folders made for one test."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from PIL import Image

from profiling.points.configuration import mask_config, read_point, to_plain
from profiling.points.options import is_group
from profiling.points.point import Point

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "conf"


def compose_config(*overrides: str) -> dict[str, Any]:
    """A configuration of its own, that a test may change.

    Composing takes Hydra tenths of a second, so it is done once for each choice of files, whichever
    process asks first; single values are set as Hydra sets them (`tests/points/test_blocks.py`
    compares the two).
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    chosen = tuple(str(one.input_line) for one in parsed if _is_for_hydra(one))
    config = pickle.loads(_compose_files(chosen))
    values = [one for one in parsed if not _is_for_hydra(one)]
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return to_plain(config)


def _is_for_hydra(override: Override) -> bool:
    """Whether an override chooses a file, or is about what a plain configuration leaves out."""
    return is_group(override.key_or_group) or override.key_or_group.startswith("hydra.")


@cache
def _compose_files(chosen: tuple[str, ...]) -> bytes:
    folder = os.environ.get("VLM_PROFILING_TEST_COMPOSED")
    if folder is None:
        return _compose(chosen)
    shared = Path(folder, hashlib.sha256(repr((str(CONF), chosen)).encode()).hexdigest())
    if not shared.exists():
        own = shared.with_suffix(f".{os.getpid()}")
        own.write_bytes(_compose(chosen))
        own.replace(shared)
    return shared.read_bytes()


def _compose(chosen: tuple[str, ...]) -> bytes:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = mask_config(compose("config", list(chosen)))
    OmegaConf.set_struct(config, True)
    return pickle.dumps(config)


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
