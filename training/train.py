"""Trains a tiny checkpoint: `python -m training.train --model M --state DIR --output DIR`."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from profiling.arguments import Parser, refusing, whole_from
from profiling.errors import ConfigError
from training.batches import IGNORED, Batch, join, make_batch, pad_rows
from training.checkpoint import write_checkpoint
from training.families import FAMILIES, find_family
from training.families.family import Family
from training.plan import Plan, read_plan
from training.scenes import CLASS_COUNT, FIRST_CHARACTER
from training.state import read_state, save_state
from training.towers import copy_matching

_REPORT_EVERY = 50


class Training:
    """A training in progress; its complete state can be saved."""

    def __init__(
        self, *, family: Family, plan: Plan, seed: int, start_from: Path | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.family, self.plan, self.seed = family, plan, seed
        self.start_from = start_from
        self.network: PreTrainedModel = family.build_network().train()
        family.get_ready(self.network)
        self.kept = family.watch(self.network)
        # Classifies every patch; it is not part of the checkpoint.
        self.head = nn.Linear(family.feature_width, family.labels_per_token * CLASS_COUNT)
        self.parameters = [*self.network.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=plan.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.step, self.seconds = 0, 0.0
        weights = torch.ones(CLASS_COUNT)
        weights[0] = 0.2  # most patches are empty
        self.class_weights = weights

    def advance(self) -> dict[str, float]:
        """Run one step; returns its losses and hit rates."""
        started = time.perf_counter()
        batch = make_batch(self.family, self.plan, seed=self.seed, step=self.step)
        loss, seen = self._judge(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.plan.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        self.optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return seen

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "origin": self._origin(),
        }
        save_state(path, state)

    def load(self, path: Path) -> None:
        """Resume from a state with the same plan and origin; any other is refused."""
        state = read_state(path)
        begun = state["origin"]
        for name, wanted in self._origin().items():
            if name not in begun or begun[name] != wanted:
                found = begun.get(name, "unknown")
                reason = f"was started with {name} {found}, not {wanted}; allowed is another folder"
                raise ConfigError("--state", path, reason)
        self.network.load_state_dict(state["network"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _origin(self) -> dict[str, Any]:
        """What determines the outcome: the plan, the seed and the initial weights."""
        start = None if self.start_from is None else str(self.start_from)
        return {"seed": self.seed, "start_from": start, **asdict(self.plan)}

    def _judge(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        if self.plan.looks_at(self.step):
            features = self.family.see(self.network, batch.pixels, batch.grid)
            return self._judge_patches(features, batch.patch_labels)
        logits, labels, ids = self._read(batch)
        answers, seen = _judge_answers(logits, labels, batch.tasks)
        features = self.family.pick_features(self.kept[0], ids)
        patches, hits = self._judge_patches(features, batch.patch_labels)
        return answers + self.plan.dense_weight * patches, seen | hits

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        family, pad = self.family, self.family.tokenizer.pad_token_id
        if family.reads_prompt_and_answer:
            ids, labels = join(batch.prompts, batch.answers, pad)
            return family.forward(self.network, batch.pixels, ids, batch.grid), labels, ids
        ids, answers = pad_rows(batch.prompts, pad), pad_rows(batch.answers, pad)
        labels = pad_rows(batch.answers, IGNORED)
        return family.forward_apart(self.network, batch.pixels, ids, answers), labels, ids

    def _judge_patches(self, features: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        scores = self.head(features).reshape(-1, CLASS_COUNT)
        labels = labels.flatten()
        loss = functional.cross_entropy(scores, labels, weight=self.class_weights)
        right = scores.argmax(-1) == labels
        groups = {"things": labels > 0, "characters": labels >= FIRST_CHARACTER}
        seen = {name: right[group].float().mean() for name, group in groups.items() if group.any()}
        return loss, {name: share.item() for name, share in seen.items()}


def _judge_answers(
    logits: Tensor, labels: Tensor, tasks: tuple[str, ...]
) -> tuple[Tensor, dict[str, float]]:
    """Loss and hit rates. The loss is a mean over samples: short answers weigh as much as long."""
    counted = labels != IGNORED
    losses = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(labels.shape)
    by_sample = losses.sum(1) / counted.sum(1)
    right = ((logits.argmax(-1) == labels) | ~counted).all(1).tolist()
    hits = defaultdict(list)
    for task, hit in zip(tasks, right, strict=True):
        hits[task].append(float(hit))
    seen = {task: sum(values) / len(values) for task, values in hits.items()}
    return by_sample.mean(), seen | {"loss": by_sample.mean().item()}


def train(training: Training, *, state: Path, save_every: int, stop_at: int) -> None:
    """Train from the current step to the plan's end or to `stop_at`."""
    history = state.with_suffix(".jsonl")
    seen: dict[str, list[float]] = defaultdict(list)
    last = min(stop_at, training.plan.steps)
    while training.step < last:
        for name, value in training.advance().items():
            seen[name].append(value)
        if training.step % _REPORT_EVERY == 0:
            _report(training, seen, history)
            seen.clear()
        if training.step % save_every == 0 or training.step == last:
            training.save(state)


def _report(training: Training, seen: dict[str, list[float]], history: Path) -> None:
    means = {name: round(sum(v) / len(v), 3) for name, v in sorted(seen.items())}
    line = json.dumps({"step": training.step, "seconds": round(training.seconds), **means})
    print(line, flush=True)
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def main() -> None:
    arguments = _parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    asked = {"steps": arguments.steps, "look_steps": arguments.look_steps}
    changes = {name: value for name, value in asked.items() if value is not None}
    plan = read_plan(arguments.model, changes)
    family = find_family(arguments.model)
    training = Training(
        family=family, plan=plan, seed=arguments.seed, start_from=arguments.start_from
    )
    state = arguments.state / f"{arguments.model}.pt"
    with refusing():
        if state.exists():
            training.load(state)
        elif arguments.start_from is not None:
            print(copy_matching(training.network, arguments.start_from))
    stop_at = plan.steps if arguments.stop_at is None else arguments.stop_at
    train(training, state=state, save_every=arguments.save_every, stop_at=stop_at)
    write_checkpoint(arguments.output, family, training.network)


def _parse_arguments() -> argparse.Namespace:
    parser = Parser(prog="training.train", description=__doc__)
    add = parser.add_argument
    add("--model", choices=FAMILIES, required=True)
    add("--state", type=Path, required=True, help="folder of the state to save and resume from")
    add("--output", type=Path, required=True, help="the checkpoint's folder")
    add("--start-from", type=Path, help="a trained checkpoint to copy the vision weights from")
    add("--seed", type=int, default=0)
    add("--threads", type=whole_from(1), default=1)
    add("--steps", type=whole_from(1), help="override the plan's")
    add(
        "--look-steps",
        type=whole_from(0),
        help="steps without text, override the plan's",
    )
    add("--stop-at", type=whole_from(0), help="a step to stop at before the plan's end")
    add("--save-every", type=whole_from(1), default=100)
    return parser.parse_args()


if __name__ == "__main__":
    main()
