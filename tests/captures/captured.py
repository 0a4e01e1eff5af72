"""Captures of the embedded models, made once for all tests, and small modules of a test's own."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from profiling.captures import capture
from profiling.captures.folder import Capture
from tests.tiny_models import answer, ask_unevenly, load

SIDE, LENGTH = 112, 3


@cache
def folder_for_all() -> Path:
    return Path(tempfile.mkdtemp(prefix="captures-"))


@cache
def captured(family: str) -> Capture:
    """An uneven batch of two: every call."""
    engine = load(family)
    folder = folder_for_all() / family
    with capture(engine.network, folder, calls=100):
        answer(engine, ask_unevenly(engine, 2), SIDE, LENGTH)
    return Capture(folder)


class Scaled(nn.Module):
    """A linear layer times a number, plus what it is told to add."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)
        self.factor = 0.5

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        y: Tensor = self.inner(x) * self.factor
        return y if add is None else y + add


def make_scaled(seed: int = 0) -> Scaled:
    torch.manual_seed(seed)
    return Scaled().eval().requires_grad_(False)


def capture_scaled(folder: Path, module: Scaled | None = None) -> tuple[Scaled, Capture]:
    module = module or make_scaled()
    with capture(module, folder):
        module(torch.randn(3, 6))
        module(torch.randn(2, 6), add=torch.randn(4))
    return module, Capture(folder)
