"""What a dry run says of points whose counting fails."""

from __future__ import annotations

import os
import sys

import pytest

from profiling import PACKAGE, import_path
from profiling.points.configuration import compose_config
from profiling.runs import announcing
from profiling.runs.session import plan_point


def test_counting_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [plan_point(compose_config([f"img_size={side}"])) for side in (56, 84)]
    broken = (sys.executable, "-c", "print('{}'); raise SystemExit('no such library')")
    monkeypatch.setattr(announcing, "_ESTIMATE", broken)
    first, second = announcing.estimate(plans)
    assert first == {}
    assert second["reason"] == "not counted: counting ended with status 1: no such library"


def test_other_processes_find_the_package_first(monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(PACKAGE.parent)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert import_path() == own
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/elsewhere", own, ""]))
    assert import_path() == os.pathsep.join([own, "/elsewhere"])
