"""The typed description of one run, and the address that its fingerprint gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from profiling import PROJECT


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run's configuration. Everything that `auto` or null stood for is already resolved."""

    model: str
    weights: str
    checkpoint: str | None
    revision: str | None
    public_dtype: str
    dataset: str
    dataset_folder: str
    headline_reference: str
    accuracy: str | None
    optimization: tuple[str, ...]
    optimization_settings: Mapping[str, Mapping[str, Any]]
    img_size: int
    prompt_len: int | None
    batch_size: int
    max_new_tokens: int
    num_samples: int | None
    seed: int
    round: int
    device: str
    threads: int
    preload: bool
    profiler: Mapping[str, Any]
    results_dir: str = field(compare=False)
    resume: bool = field(compare=False)
    strict: bool = field(compare=False)
    share_device: bool = field(compare=False)

    @property
    def load_key(self) -> tuple[object, ...]:
        """What a loaded model can be kept for: equal keys mean the same module in memory."""
        settings = json.dumps(_plain(self.optimization_settings), sort_keys=True)
        return (
            self.model,
            self.weights,
            self.checkpoint,
            self.revision,
            settings,
            self.device,
            self.threads,
            self.seed if self.weights == "random" else None,
        )

    def as_config(self) -> dict[str, Any]:
        """The resolved configuration, in the shape of the command line's keys."""
        return {
            "model": {
                "name": self.model,
                "checkpoint": self.checkpoint,
                "revision": self.revision,
                "dtype": self.public_dtype,
            },
            "weights": self.weights,
            "dataset": {
                "name": self.dataset,
                "folder": _from_project(self.dataset_folder),
                "headline_reference": self.headline_reference,
                "accuracy": self.accuracy,
            },
            "optimization": _plain(self.optimization_settings),
            "img_size": self.img_size,
            "prompt_len": self.prompt_len,
            "batch_size": self.batch_size,
            "max_new_tokens": self.max_new_tokens,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "round": self.round,
            "device": self.device,
            "threads": self.threads,
            "preload": self.preload,
            "profiler": _plain(self.profiler),
            "results_dir": self.results_dir,
            "resume": self.resume,
            "strict": self.strict,
            "share_device": self.share_device,
        }

    def label(self) -> str:
        """A short name for people."""
        parts = [self.model, "+".join(self.optimization), self.dataset, f"img_size={self.img_size}"]
        if self.prompt_len is not None:
            parts.append(f"prompt_len={self.prompt_len}")
        if self.round > 1:
            parts.append(f"round={self.round}")
        return " ".join([*parts, f"batch_size={self.batch_size}"])

    def fingerprint(
        self,
        *,
        machine: Mapping[str, Any],
        versions: Mapping[str, str],
        samples_digest: str,
        weights_digest: str,
    ) -> str:
        """The point's address: equal for the same work on the same kind of machine, and only then.

        Folders count by what is in them and not by where they lie, so that a project that was
        moved, or a sample folder that was copied, leaves the address as it is.
        """
        config = self.as_config()
        for name in ("results_dir", "resume", "strict", "share_device"):
            del config[name]
        config["model"] = {"name": self.model, "weights": weights_digest}
        config["dataset"] = {**config["dataset"], "folder": samples_digest}
        facts = {
            "config": config,
            "code": digest_code(),
            "machine": machine,
            "versions": dict(versions),
        }
        return hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:16]


def _from_project(folder: str) -> str:
    """A folder inside of the project by its place in there, which is the same on every machine."""
    path = Path(folder)
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else folder


def canonical_json(value: object) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@cache
def digest_code() -> str:
    """A digest of the code that measures: all of this package except the reports."""
    package = PROJECT / "profiling"
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("report/"):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def order_for_loading(points: Sequence[Point]) -> list[int]:
    """Positions of the points, arranged so that one loaded model serves all that need it.

    Rounds come one after another all the same: what they are for is that a machine which slowly
    changes does so for every point alike.
    """
    first_seen: dict[tuple[object, ...], int] = {}
    for position, point in enumerate(points):
        first_seen.setdefault(point.load_key, position)
    return sorted(
        range(len(points)), key=lambda i: (points[i].round, first_seen[points[i].load_key], i)
    )
