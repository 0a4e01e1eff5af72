"""The functions of each family agree with every captured call of the library's modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import profiling.capture
import profiling.verify
from profiling.captures.folder import Capture
from tests.marking import slow_except
from tests.tiny_models import FAMILIES

# Modules around all others: the library's generate prepares their inputs, and the tests of tokens
# and logits hold what they add to the modules inside of them.
WHOLE = ("", "model", "language_model")
# Other things in every network.
ANYTHING = {"Dropout", "Sequential"}


def judge(family: str, library: str, folder: Path, *size: str) -> dict[str, Any]:
    """What `verify` says of the functions, on a capture made by the command."""
    profiling.capture.main(["--model", family, "--output", str(folder / "calls"), *size])
    given = ["--functions", f"profiling.models.{family}.functional", "--library", library]
    with pytest.raises(SystemExit) as ending:
        profiling.verify.main([str(folder / "calls"), *given, "--json", str(folder / "v.json")])
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads((folder / "v.json").read_text())
    assert ending.value.code == 0, found["sentences"]
    return found


def require_all(found: dict[str, Any], folder: Path) -> None:
    """Every class has a function, and each function reads every weight."""
    assert [row["module"] for row in found["calls"] if row["unread"]] == []
    assert [told for told in found["sentences"] if told.startswith(("note", "never read"))] == []
    capture = Capture(folder / "calls")
    judged = {row["kind"] for row in found["calls"]}
    left = {capture.kind(call) for call in capture.calls if call.module not in WHOLE} - judged
    assert left <= ANYTHING


@pytest.mark.parametrize("family", slow_except(FAMILIES, "qwen25vl"))
def test_a_call_of_each_module_agrees(family: str, tmp_path: Path) -> None:
    """One uneven batch, the prompt and one more token; the first call of most modules."""
    size = ("--samples", "0", "--uneven", "2", "--tokens", "2", "--calls", "2")
    require_all(judge(family, "torch", tmp_path, *size), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "numpy", "jax"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_captured_call_agrees(family: str, library: str, tmp_path: Path) -> None:
    if library == "jax":
        pytest.importorskip("jax")
    size = ("--samples", "1", "--uneven", "3", "--tokens", "4", "--calls", "100")
    found = judge(family, library, tmp_path, *size)
    assert len(found["calls"]) >= 400
    if library != "jax":  # which is given weights that note nothing
        require_all(found, tmp_path)
