"""Weights & Biases: offline into a folder, or to its server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from profiling.trackers.tracker import REPEATED, Drawing, Entry

if TYPE_CHECKING:
    from wandb import Settings

Mode = Literal["online", "offline", "disabled", "shared"]


class WeightsAndBiases:
    """Each run is started and finished at once, when its record is complete."""

    def __init__(self, *, project: str, folder: str, mode: Mode) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._library = wandb
        self._project, self._folder, self._mode = project, Path(folder), mode

    def has(self, entry: Entry) -> bool:
        return any(self._folder.glob(f"wandb/*run-*-{entry.id}"))

    def add(self, entry: Entry, drawings: list[Drawing]) -> None:
        # If the folder is missing the library silently uses another one.
        self._folder.mkdir(parents=True, exist_ok=True)
        run = self._library.init(
            project=self._project,
            dir=self._folder,
            mode=self._mode,
            id=entry.id,
            name=entry.name,
            config=dict(entry.settings),
            settings=self._settings(),
        )
        for latency_s in entry.latencies_s:
            run.log({REPEATED: latency_s})
        images = {
            f"figures/{drawing.name}": self._library.Image(str(drawing.png)) for drawing in drawings
        }
        if images:
            run.log(images)
        run.summary.update({**entry.numbers, **entry.texts})
        for path in sorted(entry.folder.iterdir()):
            # By default the library would link to the record, which may be moved.
            kept = shutil.copy(path, run.dir)
            run.save(kept, base_path=run.dir, policy="now")
        run.finish(exit_code=0 if entry.completed else 1)

    def _settings(self) -> Settings:
        """Send the record only: this process is not the one that was measured."""
        return self._library.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
        )


TRACKER = WeightsAndBiases
