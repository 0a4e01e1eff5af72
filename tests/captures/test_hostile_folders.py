"""Captures with something changed at random: judged, or refused in one line, and never a crash."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import profiling.verify
from profiling.captures import capture
from profiling.captures.folder import Capture
from profiling.errors import ConfigError
from profiling.parts.artifacts import size_bytes

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**70, 1e308, 0.5, "", "x", "../../etc/passwd", "\x00"),
    *([], [[]], {}, {"tensor": "x"}, {"cache": "DynamicCache", "state": {}}, {"again": 0}),
    *({"tuple": []}, {"size": [3]}, {"dtype": "float32"}, {"opaque": "os.system"}, "a" * 3000),
    *({"named": "Evil", "parts": {"a": 1}}, {"named": "a;b", "parts": {}}, {"named": 1}),
    *({"float": "nan"}, {"device": "cuda:99"}, {"layer": "DynamicLayer", "state": {"keys": 1}}),
)
FUNCTIONS = """
import torch
from tests.captures.test_hostile_folders import make_attending

def linear(w, settings, arguments):
    return torch.nn.functional.linear(arguments["input"], w["weight"], w["bias"])

MODULES = {"Linear": linear}
original = make_attending
"""


class Attending(nn.Module):
    """Has arguments of several kinds, views among them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.eps = nn.Linear(4, 4), 1e-5

    def forward(self, x: torch.Tensor, more: Any = None, *, scale: float = 1.0) -> Any:
        y = self.inner(x) * scale + self.eps
        return {"y": y, "more": more, "t": (y.T, y.dtype)}


def make_attending() -> Attending:
    torch.manual_seed(0)
    return Attending().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "functions.py").write_text(FUNCTIONS)
    module = make_attending()
    with capture(module, folder / "calls", weights=True):
        module(torch.randn(3, 4), [1, {"a": torch.ones(2, 2).T}], scale=2.0)
        module(torch.randn(8, 3).T[:, :4], None)
    return folder / "calls"


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place inside of a value: what holds it, and its key."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from places(value[key])


def change_json(chance: random.Random, folder: Path) -> None:
    path = folder / chance.choice(["capture.json", "calls.jsonl"])
    lines = path.read_text().splitlines()
    number = chance.randrange(len(lines))
    told = json.loads(lines[number])
    holder, key = chance.choice(list(places(told)))
    if chance.random() < 0.25:
        del holder[key]
    elif chance.random() < 0.3:
        _, other = chance.choice(list(places(told)))
        holder[key] = other
    else:
        holder[key] = chance.choice(VALUES)
    lines[number] = json.dumps(told)
    path.write_text("\n".join([*lines, ""]))


def change_bytes(chance: random.Random, folder: Path) -> None:
    path = chance.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    kind, place = chance.randrange(3), chance.randrange(len(content))
    if kind == 0:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del content[place:]
    else:
        content[place:place] = chance.randbytes(chance.randrange(1, 40))
    path.write_bytes(content)


def judge(original: Path, folder: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> int:
    chance = random.Random(seed)
    changed = folder / f"calls-{seed}"
    shutil.copytree(original, changed)
    chance.choice([change_json, change_json, change_bytes])(chance, changed)
    more = ["--functions", str(original.parent / "functions.py")]
    if seed % 3 == 0:
        more = ["--against", str(original)]
    with pytest.raises(SystemExit) as ended:
        profiling.verify.main([str(changed), *more])
    told = capsys.readouterr()
    status = ended.value.code
    assert status in (0, 1, 2), (seed, told)
    if status == 2 and not told.out:
        assert told.err.count("\n") == 1, (seed, told.err)
    shutil.rmtree(changed)
    return int(status)


SEEDS = [
    pytest.param(range(30), id="few"),
    pytest.param(range(30, 430), id="many", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_changed_folder_is_judged_or_refused_in_one_line(
    seeds: range, original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [judge(original, tmp_path, seed, capsys) for seed in seeds]
    assert found.count(2) > len(seeds) // 4
    assert size_bytes(original) < 100_000


def test_a_number_of_files_that_cannot_be_is_refused_at_once(
    original: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "calls"
    shutil.copytree(original, changed)
    told = json.loads((changed / "capture.json").read_text())
    (changed / "capture.json").write_text(json.dumps({**told, "files": 10**15}))
    with pytest.raises(ConfigError, match=r"there is no tensors-00001\.safetensors in it"):
        Capture(changed)
