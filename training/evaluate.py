"""What a checkpoint can do on unseen samples: `python -m training.evaluate --model M FOLDER`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from profiling.arguments import Parser, refusing, whole_from
from profiling.quality.words import normalize
from training.checkpoint import check_checkpoint
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
        # Among few signs there may be none with such a word.
        if held_out:
            pairs = map(list, zip(*held_out, strict=True))
            results["sign_wer_unseen_words"] = word_error_rate(*pairs)
    return results


def word_error_rate(references: list[str], answers: list[str]) -> float:
    return jiwer.wer([normalize(r) for r in references], [normalize(a) for a in answers])


def load_network(folder: Path, dtype: str | torch.dtype) -> PreTrainedModel:
    """As a public folder is loaded."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()


def _holds_unseen_word(text: str) -> bool:
    return any(word in HELD_OUT_WORDS for word in text.split())


def _split(scenes: list[Scene]) -> Iterator[list[Scene]]:
    for start in range(0, len(scenes), _BATCH):
        yield scenes[start : start + _BATCH]


def main() -> None:
    arguments = _parse_arguments()
    with refusing():
        check_checkpoint(arguments.checkpoint, arguments.model)
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
    parser = Parser(prog="training.evaluate", description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--model", choices=FAMILIES, required=True)
    add("--seed", type=int, default=31337)
    add("--count", type=whole_from(1), default=200, help="samples a task")
    add("--threads", type=whole_from(1), default=1)
    add("--filler", type=whole_from(0), default=0, help="neutral words before the question")
    add("--all-sizes", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
