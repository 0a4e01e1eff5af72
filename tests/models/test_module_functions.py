"""The functions of each family agree with every captured call of the library's modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import FAMILIES

capture = pytest.importorskip("profiling.capture")
verify = pytest.importorskip("profiling.verify")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_captured_call_agrees(family: str, library: str, tmp_path: Path) -> None:
    folder = tmp_path / "captured"
    size = ["--samples", "1", "--uneven", "3", "--tokens", "3"]
    capture.main(["--model", family, "--output", str(folder), *size])
    functions = ["--functions", f"profiling.models.{family}.functional", "--library", library]
    with pytest.raises(SystemExit) as ending:
        verify.main([str(folder), *functions])
    assert ending.value.code == 0
