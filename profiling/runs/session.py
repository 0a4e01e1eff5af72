"""Runs points one after another until each has a record: addresses, locks, kept records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TextIO

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.machine.locks import LockError, hold, user_lock
from profiling.machine.machine import (
    describe_machine,
    git_state,
    package_versions,
    resolve_device,
    usable_cores,
)
from profiling.models.positions import check_length, count_positions
from profiling.models.weights import describe_weights, locate
from profiling.points.address import canonical_json, digest_code
from profiling.points.configuration import read_point
from profiling.points.point import Point
from profiling.records import COMPLETED, FAILED, KEPT_STATUSES, finished_status, folder_for
from profiling.runs.job import Job, Note, Outcome
from profiling.runs.keeper import WorkerKeeper
from profiling.runs.progress import Progress
from profiling.runs.recording import now
from profiling.samples.calibration import digest_calibration
from profiling.samples.samples import Sample, check_pictures, digest_samples
from profiling.samples.showing import count_frames, count_pictures, load_shown
from profiling.trackers.tracking import Tracking

LOCKS = ".locks"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A point that was checked in full and can run."""

    point: Point
    samples: list[Sample]
    fingerprint: str
    digests: Mapping[str, str]


def plan_point(config: Mapping[str, Any]) -> Plan:
    """Check everything about a point that can be checked without loading its model."""
    device = resolve_device(str(config.get("device")))
    return plan_checked(read_point(config, device=device, cores=usable_cores()))


def plan_checked(point: Point) -> Plan:
    """The same for a point whose keys have been checked."""
    at_most = point.profiler["num_samples"]
    folder = Path(point.dataset_folder)
    shown = point.num_pictures, point.num_frames, point.seed if point.num_pictures else 0
    samples, samples_digest = _checked_samples(folder, point.num_samples, at_most, *shown)
    point = replace(
        point,
        num_samples=len(samples),
        num_pictures=count_pictures(samples),
        num_frames=count_frames(samples),
    )
    calibration = digest_calibration(point)
    seen = samples_digest
    if calibration is not None:
        seen = hashlib.sha256((samples_digest + calibration).encode()).hexdigest()
    weights_digest, positions = _check_weights(point)
    check_length("max_new_tokens", point.max_new_tokens, positions)
    fingerprint = point.fingerprint(
        machine=describe_machine().identity(),
        versions=installed_versions(),
        samples_digest=seen,
        weights_digest=weights_digest,
    )
    _check_results_dir(Path(point.results_dir))
    digests = {"code": digest_code(), "samples": samples_digest, "weights": weights_digest}
    if calibration is not None:
        # Apart from what is judged, which runs without calibration have in common with this one.
        digests["calibration"] = calibration
    return Plan(point=point, samples=samples, fingerprint=fingerprint, digests=digests)


@cache
def installed_versions() -> dict[str, str]:
    """Reading them takes longer than all other checks of a point together."""
    return package_versions()


@cache
def _checked_samples(
    folder: Path,
    count: int | None,
    at_most: int | None,
    num_pictures: int | None,
    num_frames: int | None,
    seed: int,
) -> tuple[list[Sample], str]:
    samples = load_shown(
        folder,
        count=count,
        at_most=at_most,
        num_pictures=num_pictures,
        num_frames=num_frames,
        seed=seed,
    )
    check_pictures(folder, samples)
    return samples, digest_samples(samples)


def forget_checked() -> None:
    """Have samples and weights read again by the next checks.

    Those of one sweep are read once. A process that goes on afterwards, such as a notebook's, may
    find them changed.
    """
    _checked_samples.cache_clear()
    _weights_seen.clear()


_weights_seen: dict[tuple[str, str, str | None, str | None], tuple[str, int | None]] = {}


def _check_weights(point: Point) -> tuple[str, int | None]:
    """The digest of the weights, and how many positions their model has."""
    key = (point.model, point.weights, point.checkpoint, point.revision)
    if key not in _weights_seen:
        source = locate(point)
        _weights_seen[key] = source.digest, count_positions(source.config)
    return _weights_seen[key]


def _check_results_dir(folder: Path) -> None:
    try:
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made a folder to write to: {error.strerror}"
        raise ConfigError("results_dir", folder, reason) from None


def is_kept(plan: Plan) -> bool:
    """Whether the point has a record that makes measuring it again unnecessary."""
    return kept_status(plan) is not None


def kept_status(plan: Plan) -> str | None:
    """The status of the record that is kept for the point; None where it has to be measured."""
    folder = _find_kept(plan)
    return None if folder is None else finished_status(folder)


def _find_kept(plan: Plan) -> Path | None:
    """The first record of the point that can be kept, among them `-2`, `-3` and so on."""
    if not plan.point.resume:
        return None
    return next((one for one in _folders(plan) if finished_status(one) in KEPT_STATUSES), None)


def _folders(plan: Plan) -> Iterator[Path]:
    folder = Path(plan.point.results_dir) / plan.fingerprint
    yield folder
    beside = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    yield from takewhile(Path.is_dir, beside)


class Session:
    """Runs checked points and counts how they end."""

    def __init__(self, *, total: int, stream: TextIO | None = None) -> None:
        self.progress = Progress(total=total, stream=stream)
        self._total = total
        self._keeper = WorkerKeeper()
        self._trackings: dict[str, Tracking] = {}
        self.statuses: list[str] = []
        self.status_of: dict[str, str] = {}
        self._kept = 0

    def run(self, plan: Plan) -> Outcome:
        """Run one point, unless a record of it can be kept."""
        self.progress.begin(plan.point.label())
        results_dir = Path(plan.point.results_dir)
        lock = results_dir / LOCKS / plan.fingerprint
        try:
            with self._hold(lock, "another process runs this point"):
                outcome = self._run_locked(plan, results_dir)
        except LockError as error:
            outcome = self._give_up(f"there is no record: {error}")
        except OSError as error:
            outcome = self._give_up(f"there is no record, since it cannot be written: {error}")
        self.statuses.append(outcome.status)
        self.status_of[plan.fingerprint] = outcome.status
        return outcome

    def _hold(self, path: Path, reason: str) -> AbstractContextManager[None]:
        return hold(
            path, on_wait=lambda holder: self.progress.phase(f"waiting: {reason} ({holder})")
        )

    def _run_locked(self, plan: Plan, results_dir: Path) -> Outcome:
        kept = _find_kept(plan)
        if kept is not None:
            return self._keep(plan, kept)
        folder = folder_for(results_dir, plan.fingerprint, resume=plan.point.resume)
        if folder.exists():
            self.progress.note(f"{folder} holds a failed or torn run, which is replaced")
        return self._measure(plan, folder)

    def _keep(self, plan: Plan, folder: Path) -> Outcome:
        status = finished_status(folder)
        assert status is not None
        self._kept += 1
        self.progress.end(f"{status} already, kept in {folder}", measured=False)
        self._show(plan, folder)
        return Outcome(status=status, error=None, loaded=False, summary={})

    def _give_up(self, error: str) -> Outcome:
        outcome = Outcome(status=FAILED, error=error, loaded=False, summary={})
        self.progress.end(f"{FAILED}: {error}", measured=False)
        return outcome

    def _measure(self, plan: Plan, folder: Path) -> Outcome:
        job = Job(point=plan.point, samples=plan.samples, folder=folder, facts=_gather_facts(plan))
        with self._hold_device(plan.point):
            outcome = self._keeper.run(job, self._show_news)
            if len(self.statuses) + 1 == self._total:
                # Another process may be waiting for the device.
                self._keeper.close()
        self.progress.end(_describe(outcome, folder), measured=outcome.status == COMPLETED)
        self._show(plan, folder)
        return outcome

    def _show_news(self, news: str) -> None:
        (self.progress.note if isinstance(news, Note) else self.progress.phase)(news)

    def _show(self, plan: Plan, folder: Path) -> None:
        """Show a record in the tracker, also one that was kept from before."""
        chosen = canonical_json(plan.point.tracker)
        if chosen not in self._trackings:
            self._trackings[chosen] = Tracking(plan.point.tracker, self.progress.note)
        self._trackings[chosen].show(folder)

    def _hold_device(self, point: Point) -> AbstractContextManager[None]:
        """Runs that share a device would disturb each other's times."""
        if point.share_device:
            return nullcontext()
        return self._hold(device_lock(point.device), f"another run measures on {point.device}")

    def close(self) -> None:
        self.progress.close()
        self._keeper.close()

    def stop(self) -> None:
        """End the present point from another thread; its outcome is that of a killed worker."""
        self._keeper.stop()

    def abandon(self) -> None:
        """End at once. Only the present point is lost."""
        self.progress.close()
        self._keeper.kill()

    def counts(self) -> str:
        counts = {status: self.statuses.count(status) for status in dict.fromkeys(self.statuses)}
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        ended = len(self.statuses)
        share = f"{ended} of {self._total}" if ended < self._total else str(ended)
        return f"{share} {'point' if self._total == 1 else 'points'}: {listed or 'none ended'}"

    def totals(self) -> str:
        models = "1 model" if self._keeper.num_loaded == 1 else f"{self._keeper.num_loaded} models"
        return f"{self.counts()} ({self._kept} kept from before); {models} loaded"

    def exit_status(self, *, single: bool) -> int:
        if single:
            return 0 if self.statuses == [COMPLETED] else 1
        return 1 if FAILED in self.statuses or len(self.statuses) < self._total else 0


def device_lock(device: str) -> Path:
    """One lock for each device and user, whatever folder the runs write to."""
    kind, _, number = device.partition(":")
    name = describe_machine().gpus[int(number)].uuid if kind == "cuda" else kind
    return user_lock(name)


def _gather_facts(plan: Plan) -> dict[str, Any]:
    return {
        "fingerprint": plan.fingerprint,
        "config": plan.point.as_config(),
        "machine": describe_machine().to_dict(),
        "versions": installed_versions(),
        "git": git_state(PROJECT),
        "weights": describe_weights(plan.point),
        "digests": plan.digests,
        "started_at": now(),
    }


def _describe(outcome: Outcome, folder: Path) -> str:
    if outcome.status != COMPLETED:
        return f"{outcome.status}: {outcome.error}"
    latency_s, wer = outcome.summary.get("latency_s"), outcome.summary.get("wer")
    shown = f"completed, {latency_s * 1e3:.1f} ms a batch" if latency_s else "completed"
    return shown + (f", WER {wer:.3f}" if wer is not None else "") + f", {folder}"
