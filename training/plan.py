"""The training plan of a family: plans.yaml with types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_PLANS = Path(__file__).with_name("plans.yaml")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All hyperparameters of a training run."""

    steps: int
    look_steps: int
    look_every: int
    batch_size: int
    look_batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    warmup_steps: int
    cooldown_share: float
    dense_weight: float
    filler_from_share: float
    filler_rate: float
    filler_words: int
    long_from_share: float
    long_rate: float
    long_batch_size: int
    long_words: int
    other_sizes_from_share: float
    other_sizes_rate: float
    shaped_rate: float
    doubled_rate: float
    look_mix: Mapping[str, int]
    mixes: Mapping[float, Mapping[str, int]]

    def rate_at(self, step: int) -> float:
        """The learning rate: linear warm-up, constant, linear decay to zero."""
        rise = (step + 1) / self.warmup_steps
        fall = (self.steps - step) / (self.cooldown_share * self.steps)
        return self.learning_rate * min(1.0, rise, fall)

    def looks_at(self, step: int) -> bool:
        """Whether a step is an alignment step: all of the first, then every `look_every`-th."""
        return step < self.look_steps or step % self.look_every == 0

    def size_at(self, step: int) -> int:
        return self.look_batch_size if self.looks_at(step) else self.batch_size

    def mix_at(self, step: int) -> Mapping[str, int]:
        if self.looks_at(step):
            return self.look_mix
        begun = [share for share in self.mixes if step >= share * self.steps]
        return self.mixes[max(begun)]


def read_plan(model: str, changes: Mapping[str, Any]) -> Plan:
    """The plan of a family, with changes from the command line."""
    plans = yaml.safe_load(_PLANS.read_text(encoding="utf-8"))
    values = plans["common"] | plans["families"][model] | dict(changes)
    return Plan(**{**values, "learning_rate": float(values["learning_rate"])})
