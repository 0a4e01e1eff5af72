"""MLflow: a database, a folder or a server, depending on the address."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from profiling.trackers.tracker import REPEATED, Drawing, Entry

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

_ID = "record"
# Limits of one request.
_MOST_PARAMETERS, _MOST_METRICS = 100, 1000
_MOST_LETTERS = 5000
_Item = TypeVar("_Item")


class Mlflow:
    """A separate client, so that other uses of MLflow in this process are not affected."""

    def __init__(self, *, uri: str, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # Allow folders as addresses; by default the library refuses them.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(experiment)
        )

    def has(self, entry: Entry) -> bool:
        known = self._client.search_runs([self._experiment], f"tags.{_ID} = '{entry.id}'")
        return any(run.info.status != "RUNNING" for run in known)

    def add(self, entry: Entry, drawings: list[Drawing]) -> None:
        run = self._client.create_run(
            self._experiment,
            start_time=round(1000 * entry.started_at.timestamp()),
            tags={
                _ID: entry.id,
                **{key: text[:_MOST_LETTERS] for key, text in entry.texts.items()},
            },
            run_name=entry.name,
        ).info.run_id
        for metrics in _split(_metrics(entry), _MOST_METRICS):
            self._client.log_batch(run, metrics=metrics)
        for parameters in _split(_parameters(entry), _MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters)
        for drawing in drawings:
            self._client.log_artifact(run, str(drawing.png), "figures")
        self._client.log_artifacts(run, str(entry.folder), "record")
        status = "FINISHED" if entry.completed else "FAILED"
        ended = round(1000 * entry.finished_at.timestamp())
        self._client.set_terminated(run, status, end_time=ended)


def _metrics(entry: Entry) -> list[Metric]:
    from mlflow.entities import Metric

    now = round(1000 * entry.finished_at.timestamp())
    single = [Metric(key, value, now, 0) for key, value in entry.numbers.items()]
    repeated = [Metric(REPEATED, value, now, step) for step, value in enumerate(entry.latencies_s)]
    return single + repeated


def _parameters(entry: Entry) -> list[Param]:
    from mlflow.entities import Param

    return [Param(key, text[:_MOST_LETTERS]) for key, text in entry.settings.items()]


def _split(items: Sequence[_Item], most: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


TRACKER = Mlflow
