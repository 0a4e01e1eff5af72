"""What a checkpoint can do on unseen samples: `python -m training.evaluate --model M FOLDER`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from training.draw import draw_scenes
from training.families import FAMILIES, find_family
from training.families.family import Family, Size
from training.lexicon import HELD_OUT_WORDS
from training.scenes import TASKS, Scene

_MOST_NEW_TOKENS = 24
_BATCH = 25


def evaluate(
    family: Family, network: PreTrainedModel, *, seed: int, count: int, grid: Size, filler: int
) -> dict[str, float]:
    """Corpus word error rates of captions and signs, and the share of right options."""
    results: dict[str, float] = {}
    for task in TASKS:
        scenes = draw_scenes(task, seed=seed, count=count)
        said = answer(family, network, scenes, grid=grid, filler=filler)
        results |= score(task, scenes, said)
    return {name: round(value, 4) for name, value in results.items()}


def answer(
    family: Family, network: PreTrainedModel, scenes: list[Scene], *, grid: Size, filler: int
) -> list[str]:
    """Through the real processor and the library's own generate."""
    said: list[str] = []
    for batch in _split(scenes):
        questions = ["please " * filler + scene.request for scene in batch]
        inputs = family.encode([scene.picture for scene in batch], questions, grid)
        with torch.inference_mode():
            made = network.generate(
                **inputs,
                **family.generation_options,
                max_new_tokens=_MOST_NEW_TOKENS,
                do_sample=False,
            )
        said += [family.decode(row) for row in family.cut_prompt(made, inputs)]
    return said


def score(task: str, scenes: list[Scene], said: list[str]) -> dict[str, float]:
    right = [scene.answer for scene in scenes]
    exact = sum(a == b for a, b in zip(right, said, strict=True)) / len(right)
    if task == "choice":
        return {"choice_accuracy": exact}
    results = {f"{task}_wer": word_error_rate(right, said), f"{task}_exact": exact}
    if task == "sign":
        held_out = [p for p in zip(right, said, strict=True) if _holds_unseen_word(p[0])]
        results["sign_cer"] = jiwer.cer(right, said)
        results["sign_wer_unseen_words"] = word_error_rate(*map(list, zip(*held_out, strict=True)))
    return results


def word_error_rate(references: list[str], answers: list[str]) -> float:
    return jiwer.wer([_plain(r) for r in references], [_plain(a) for a in answers])


def load_network(folder: Path, dtype: str | torch.dtype) -> PreTrainedModel:
    """As a public folder is loaded."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w']+", " ", text.lower()).split())


def _holds_unseen_word(text: str) -> bool:
    return any(word in HELD_OUT_WORDS for word in text.split())


def _split(scenes: list[Scene]) -> Iterator[list[Scene]]:
    for start in range(0, len(scenes), _BATCH):
        yield scenes[start : start + _BATCH]


def main() -> None:
    arguments = _parse_arguments()
    torch.set_num_threads(arguments.threads)
    family = find_family(arguments.model)
    network = load_network(arguments.checkpoint, "auto")
    family.accept_any_size(network)
    grids: list[Any] = [family.native, *(family.smaller if arguments.all_sizes else ())]
    for grid in grids:
        results = evaluate(
            family,
            network,
            seed=arguments.seed,
            count=arguments.count,
            grid=grid,
            filler=arguments.filler,
        )
        height, width = grid[0] * family.patch, grid[1] * family.patch
        print(json.dumps({"height": height, "width": width, **results}), flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--model", choices=FAMILIES, required=True)
    parser.add_argument("--seed", type=int, default=31337)
    parser.add_argument("--count", type=int, default=200, help="samples a task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--filler", type=int, default=0, help="neutral words before the question")
    parser.add_argument("--all-sizes", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
