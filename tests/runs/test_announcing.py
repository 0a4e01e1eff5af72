"""What a dry run says of points whose counting fails."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

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


# What a dry run lists


def show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *found: dict[str, Any]
) -> list[str]:
    """The lines about points with these sides, of which nothing else is known."""
    config = compose_config([])
    config |= {"results_dir": "no/records/there", "num_samples": 1}
    plans = [plan_point({**config, "img_size": 56 + 28 * n}) for n in range(len(found))]
    monkeypatch.setattr(announcing, "estimate", lambda missing: list(found))
    announcing.list_points(plans)
    return capsys.readouterr().out.splitlines()


def test_each_point_has_its_time_and_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = announcing.describe_machine().memory_bytes
    *points, total = show(
        capsys,
        monkeypatch,
        {"at_least_s": 90.0, "needed_bytes": 2_000_000_000, "weight_bytes": 1},
        {"at_least_s": 30.0, "needed_bytes": memory + 1, "weight_bytes": 1},
        {"reason": "it needs a GPU"},
    )
    there = f"of {memory / 1e9:.1f} GB"
    time = "at least 1 min 30 s (from counted cost)"
    assert points[0].endswith(f": {time}, 2.00 GB for weights and cache {there}")
    assert points[1].endswith(f"{there}, which is not enough")
    assert points[2].endswith(": time unknown (it needs a GPU)")
    assert total == "3 points to run, at least 2 min 0 s in all; the time of 1 is unknown"


def test_a_point_that_is_named_twice_counts_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [
        plan_point(compose_config([f"device={name}", "num_samples=1"])) for name in ("auto", "cpu")
    ]
    counted = {"at_least_s": 9.0, "needed_bytes": 1, "weight_bytes": 1}
    monkeypatch.setattr(announcing, "estimate", lambda missing: [counted] * len(missing))
    monkeypatch.setattr(announcing, "is_kept", lambda _: False)
    announcing.list_points(plans)
    *points, total = capsys.readouterr().out.splitlines()
    assert len(points) == 2
    assert total == "1 point to run, at least 9.0 s in all"


def test_where_no_time_is_known_there_is_no_total(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = show(capsys, monkeypatch, {})
    assert line.endswith(": time unknown")


def test_downloads_are_listed_with_the_size_of_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"owner/kept"}
    monkeypatch.setattr(announcing, "is_downloaded", lambda name, revision: name in there)
    named = [
        ("a", "pretrained", "owner/large", "1234567"),
        ("b", "random", "owner/small", None),
        ("c", "pretrained", "owner/kept", None),
        ("d", "pretrained", str(PACKAGE), None),
        ("e", "tiny", None, None),
    ]
    plans: Any = [
        SimpleNamespace(
            fingerprint=fingerprint,
            point=SimpleNamespace(weights=weights, checkpoint=checkpoint, revision=revision),
        )
        for fingerprint, weights, checkpoint, revision in named
    ]
    known = {plan.fingerprint: None for plan in plans}
    announcing._print_total(plans, known, {"a": {"weight_bytes": 7_500_000_000}})
    assert capsys.readouterr().out.splitlines() == [
        "would download owner/large at 1234567, about 7.5 GB of weights",
        "would download config.json of owner/small at main",
    ]


def test_memory_of_a_gpu_is_that_of_its_board(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = [SimpleNamespace(memory_bytes=size * 10**9) for size in (80, 24)]
    machine = SimpleNamespace(gpus=boards, memory_bytes=10**12)
    monkeypatch.setattr(announcing, "describe_machine", lambda: machine)
    assert announcing._describe_memory("cuda", 30 * 10**9).endswith("of 80.0 GB")
    assert announcing._describe_memory("cuda:1", 30 * 10**9).endswith(
        "of 24.0 GB, which is not enough"
    )
