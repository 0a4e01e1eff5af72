"""Evaluates a checkpoint on held-out samples: `python -m training.evaluate --model M FOLDER`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import jiwer
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel

from profiling.arguments import Parser, refusing, whole_from
from profiling.models.loading import find_family as find_profiled
from profiling.models.model import Model
from profiling.quality.normalizing import normalize
from training.checkpoint import check_checkpoint
from training.draw import draw_scenes
from training.families import FAMILIES, find_family
from training.lexicon import HELD_OUT_WORDS
from training.scenes import TASKS, Scene

_MOST_NEW_TOKENS = 24
_BATCH = 25


def evaluate(model: Model, *, seed: int, count: int, side: int, filler: int) -> dict[str, float]:
    """Corpus word error rates of captions and signs, and the share of correct options."""
    results: dict[str, float] = {}
    for task in TASKS:
        scenes = draw_scenes(task, seed=seed, count=count)
        results |= score(task, scenes, answer(model, scenes, side=side, filler=filler))
    return {name: round(value, 4) for name, value in results.items()}


def answer(model: Model, scenes: list[Scene], *, side: int, filler: int) -> list[str]:
    """Answers with the preprocessing of a run with `img_size=SIDE`."""
    family = model.family
    said: list[str] = []
    for batch in _split(scenes):
        texts = [
            family.processing.render(
                family.processing.escape_special_tokens("please " * filler + s.request)
            )
            for s in batch
        ]
        inputs = family.processing.encode([scene.picture for scene in batch], texts, side)
        fed = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        said += family.processing.decode(
            model.generate(fed, side=side, length=_MOST_NEW_TOKENS, exact=False)
        )
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
        # With few signs there may be none with such a word.
        if held_out:
            pairs = map(list, zip(*held_out, strict=True))
            results["sign_wer_unseen_words"] = word_error_rate(*pairs)
    return results


def word_error_rate(references: list[str], answers: list[str]) -> float:
    return jiwer.wer([normalize(r) for r in references], [normalize(a) for a in answers])


def load_reader(folder: Path, name: str) -> Model:
    """A checkpoint loaded like in a run, so that the results apply to runs."""
    network = load_network(folder, "auto").requires_grad_(False)
    family = find_profiled(name).load(
        config=network.config, folder=folder, processor_options={"local_files_only": True}
    )
    family.layout.adapt(network)
    return Model(
        network=network,
        family=family,
        device=torch.device("cpu"),
        dtype=network.dtype,
        stored_values=True,
    )


def load_network(folder: Path, dtype: str | torch.dtype) -> PreTrainedModel:
    """The network, loaded like a public folder."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()


def list_sides(name: str) -> list[int]:
    """The picture sizes that a family is trained on: the native one first."""
    family = find_family(name)
    grids = [family.native, *family.others]
    return [rows * family.patch for rows, columns in grids if rows == columns]


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
    model = load_reader(arguments.checkpoint, arguments.model)
    sides = list_sides(arguments.model)
    for side in sides if arguments.all_sizes else sides[:1]:
        results = evaluate(
            model, seed=arguments.seed, count=arguments.count, side=side, filler=arguments.filler
        )
        print(json.dumps({"img_size": side, **results}), flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = Parser(prog="training.evaluate", description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--model", choices=FAMILIES, required=True)
    add("--seed", type=int, default=31337)
    add("--count", type=whole_from(1), default=200, help="samples per task")
    add("--threads", type=whole_from(1), default=1)
    add("--filler", type=whole_from(0), default=0, help="neutral words before the question")
    add("--all-sizes", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
