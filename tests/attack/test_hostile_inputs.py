"""Hostile checkpoints and sample folders are refused in one line, without hanging or growing."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image

from profiling.errors import ConfigError
from profiling.models.weights import locate
from profiling.samples.pictures import PictureError, read_picture
from profiling.samples.samples import check_pictures, load_samples
from tests.attack.hostile import (
    CHECKPOINT_DAMAGES,
    DATA_DAMAGES,
    EPS,
    FAMILY,
    copy_checkpoint,
    make_samples,
)
from tests.composing import compose_point

LIMIT_S = 60
LIMIT_KIB = 1_000_000


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what hangs, and what takes far more memory than what it reads."""

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"did not end in {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(LIMIT_S)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < LIMIT_KIB


@pytest.mark.parametrize("name", CHECKPOINT_DAMAGES)
def test_a_hostile_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "checkpoint")
    CHECKPOINT_DAMAGES[name](folder)
    point = compose_point(f"model={FAMILY}", "weights=pretrained", "model.revision=null")
    point = replace(point, checkpoint=str(folder))
    with bounded(), pytest.raises(ConfigError) as caught:
        locate(point)
    line = str(caught.value)
    assert line.startswith(f"model.checkpoint={folder}: ")
    assert "\n" not in line and len(line) < 6000


@pytest.mark.parametrize("name", DATA_DAMAGES)
def test_a_hostile_sample_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = make_samples(tmp_path / "samples")
    DATA_DAMAGES[name](folder)
    with bounded(), pytest.raises(ConfigError) as caught:
        check_pictures(folder, load_samples(folder, count=None, at_most=None))
    line = str(caught.value)
    assert line.startswith("dataset.folder=")
    assert "\n" not in line and len(line) < 6000


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "ICO"])
def test_a_format_that_is_not_listed_is_no_picture(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 16)).save(path, format=kind)
    with pytest.raises(PictureError, match="PNG, JPEG, WEBP, GIF, BMP, TIFF"):
        read_picture(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_format_that_is_listed_is_read_whatever_its_name(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.xyz", format=kind)
    assert read_picture(tmp_path / "a.xyz").size == (16, 16)


def test_no_program_is_started_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *given, **_: started.append(given))
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(PictureError):
        read_picture(tmp_path / "a.png")
    assert started == []
