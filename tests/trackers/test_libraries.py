"""Runs in the real MLflow and Weights & Biases, each with a store of its own on this disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiling.records import read_record
from profiling.trackers.tracking import Tracking
from tests.trackers.tracked import write_tracked

pytestmark = pytest.mark.slow
NEEDS = "a tracker needs requirements-trackers.txt"


def show(settings: dict[str, Any], *folders: Path) -> None:
    """Twice, by two processes as it were: the second has nothing to add."""
    lines: list[str] = []
    for _ in range(2):
        tracking = Tracking(settings, lines.append)
        for folder in folders:
            tracking.show(folder)
    assert lines == []


@pytest.mark.parametrize("store", ["database", "folder"])
def test_mlflow(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason=NEEDS)
    if store == "database":
        pytest.importorskip("sqlalchemy", reason=NEEDS)
    monkeypatch.chdir(tmp_path)
    uri = {"database": f"sqlite:///{tmp_path}/mlflow.db", "folder": str(tmp_path / "mlruns")}[store]
    good = write_tracked(tmp_path / "results", repeats=640)
    bad = write_tracked(tmp_path / "results", img_size=560, status="failed", error="it broke")
    show({"name": "mlflow", "uri": uri, "experiment": "some name"}, good, bad)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("some name")
    runs = {run.data.tags["folder"]: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {good.name, bad.name}
    run, summary = runs[good.name], read_record(good).summary
    assert run.info.status == "FINISHED" and runs[bad.name].info.status == "FAILED"
    assert runs[bad.name].data.tags["error"] == "it broke"
    assert run.data.params["model.name"] == "llava" and run.data.params["prompt_len"] == "null"
    assert run.data.metrics["latency_s"] == pytest.approx(summary["latency_s"])
    assert run.data.tags["energy_estimate_source"] == summary["energy_estimate_source"]
    assert len(client.get_metric_history(run.info.run_id, "repeats/latency_s")) == 640
    listed = {
        one.path
        for part in ("figures", "record")
        for one in client.list_artifacts(run.info.run_id, part)
    }
    assert {"figures/run_phases.png", "record/run.json", "record/answers.jsonl"} <= listed


def test_weights_and_biases(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason=NEEDS)
    good = write_tracked(tmp_path / "results", repeats=20)
    bad = write_tracked(tmp_path / "results", img_size=560, status="failed", error="it broke")
    store = tmp_path / "store"
    show({"name": "wandb", "project": "p", "folder": str(store), "mode": "offline"}, good, bad)
    logs = sorted((store / "wandb").glob("offline-run-*/*.wandb"))
    assert len(logs) == 2
    told = b"".join(log.read_bytes() for log in logs)
    assert all(
        word in told for word in (b"model.name", b"latency_s", b"it broke", good.name.encode())
    )
    (files,) = [log.parent / "files" for log in logs if (log.parent / "files" / "media").exists()]
    assert (files / "run.json").read_bytes() == (good / "run.json").read_bytes()
    assert not (files / "run.json").is_symlink()
    assert len(list(files.rglob("*.png"))) == 3
