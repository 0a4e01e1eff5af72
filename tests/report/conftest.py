"""What tests of reports share."""

from __future__ import annotations

import pytest


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages as they are, without the files of their figures, which take most of the time."""
    monkeypatch.setattr("profiling.report.draw.figures._save", lambda figure, stem: None)
