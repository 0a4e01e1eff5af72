"""Measures a checkpoint and writes its model card: `python -m training.card --model M FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from profiling.arguments import Parser, refusing, whole_from
from profiling.machine.machine import describe_machine
from training.checkpoint import check_checkpoint
from training.evaluate import evaluate, list_sides, load_reader
from training.families import FAMILIES
from training.plan import read_plan
from training.state import read_state

_CARD = """# {model}, tiny

A {parameters:.1f} M-parameter model with the architecture of the public one, trained on synthetic
pictures only. It gives meaningful answers without a model hub; it says nothing about the public
checkpoint's quality.

- **Class**: `{network_class}`, loaded like a public folder; half precision on disk, float32 in
  `config.json`.
- **Data**: pictures drawn by `training/scenes.py`: captions of one to three shapes, signs to be
  read character by character, options to be chosen about a chart or a diagram. Words, arrangements
  and colour orders of the held-out set are never drawn in training.
- **Training**: {steps} steps, seed {seed}, {minutes:.0f} minutes of wall time in one thread on
  {machine}{beside}. Command: `{command}`
- **Initial weights**: {origin}
{note}
## Held-out results

{count} samples per task, seed {test_seed} of the generator's held-out set, float32, greedy
decoding, with the preprocessing of a run at that `img_size`. WER is corpus WER on lower-cased
words.

{table}

Signs mix words seen in training, words never seen ("unseen words" counts the signs that hold one)
and numbers. `python -m training.evaluate --model {model} FOLDER` measures these numbers again.
"""

_COLUMNS = {
    "caption_wer": "caption WER",
    "sign_wer": "sign WER",
    "sign_wer_unseen_words": "sign WER, unseen words",
    "choice_accuracy": "option accuracy",
}


def tabulate(results: Mapping[int, Mapping[str, float]]) -> str:
    """A markdown table with one row per size."""
    lines = ["| `img_size` | " + " | ".join(_COLUMNS.values()) + " |", "|---" * 5 + "|"]
    for side, measured in results.items():
        cells = [f"{measured[name]:.3f}" if name in measured else "" for name in _COLUMNS]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = _parse_arguments()
    with refusing():
        check_checkpoint(arguments.checkpoint, arguments.model)
        state = read_state(arguments.state / f"{arguments.model}.pt")
    torch.set_num_threads(1)
    model = load_reader(arguments.checkpoint, arguments.model)
    network = model.network
    results = {
        side: evaluate(model, seed=arguments.seed, count=arguments.count, side=side, filler=0)
        for side in list_sides(arguments.model)
    }
    text = _CARD.format(
        model=arguments.model,
        parameters=sum(p.numel() for p in network.parameters()) / 1e6,
        network_class=type(network).__name__,
        steps=f"{state['step']} of {state['origin']['steps']}",
        seed=state["origin"]["seed"],
        minutes=state["seconds"] / 60,
        machine=describe_machine().cpu_model,
        beside=f" ({arguments.beside})" if arguments.beside else "",
        command=name_command(arguments.model, state["origin"]),
        origin=arguments.origin,
        note=f"- **Note**: {arguments.note}\n" if arguments.note else "",
        count=arguments.count,
        test_seed=arguments.seed,
        table=tabulate(results),
    )
    (arguments.checkpoint / "README.md").write_text(text, encoding="utf-8")
    print(tabulate(results))


def name_command(model: str, origin: Mapping[str, Any]) -> str:
    """The command line, as far as it determines the outcome."""
    usual: dict[str, Any] = {"seed": 0, "start_from": None, **asdict(read_plan(model, {}))}
    asked = (name for name in ("start_from", "look_steps", "steps", "seed"))
    options = [
        f" --{name.replace('_', '-')} {origin[name]}"
        for name in asked
        if origin[name] != usual[name]
    ]
    return f"python -m training.train --model {model}{''.join(options)} --state DIR --output DIR"


def _parse_arguments() -> argparse.Namespace:
    parser = Parser(prog="training.card", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--model", choices=FAMILIES, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=31337)
    parser.add_argument("--count", type=whole_from(1), default=200)
    parser.add_argument("--beside", default="", help="what else the machine was doing")
    parser.add_argument("--origin", default="random.")
    parser.add_argument("--note", default="", help="what a reader should know about this run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
