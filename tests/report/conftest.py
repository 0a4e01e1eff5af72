"""What tests of reports share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

SAVE = "profiling.report.draw.figures._save"


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages as they are, without the files of their figures, which take most of the time."""
    monkeypatch.setattr(SAVE, lambda figure, stem: None)


@pytest.fixture(scope="module")
def module_without_figures() -> Iterator[None]:
    """The same for a whole module, also for pages that several of its tests share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(SAVE, lambda figure, stem: None)
        yield
