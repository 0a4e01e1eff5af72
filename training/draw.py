"""Writes datasets of drawn samples: `python -m training.draw --seed 0 --count 9 --output DIR`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from profiling.arguments import Parser, refusing, whole_from
from profiling.errors import ConfigError
from training.scenes import TASKS, Scene

DATASETS = {"coco": "caption", "scienceqa": "choice", "textvqa": "sign"}


def main() -> None:
    arguments = _parse_arguments()
    with refusing():
        _check_output(arguments.output)
    for dataset, task in DATASETS.items():
        folder = arguments.output / dataset
        scenes = draw_scenes(
            task, seed=arguments.seed, count=arguments.count, held_out=not arguments.calibration
        )
        write_dataset(folder, scenes)
        print(f"{folder}: {arguments.count} samples")


def _check_output(folder: Path) -> None:
    """Refuse a folder with samples, which might not be reproducible."""
    for dataset in DATASETS:
        if (folder / dataset / "samples.json").exists():
            reason = f"holds {dataset}/samples.json already; allowed is another folder"
            raise ConfigError("--output", folder, reason)


def draw_scenes(task: str, *, seed: int, count: int, held_out: bool = True) -> list[Scene]:
    """Scenes of the held-out set, which training never sees, or of all others."""
    draw: Callable[..., Scene] = TASKS[task]
    return [draw(Random(f"{task}/{seed}/{i}"), held_out=held_out) for i in range(count)]


def write_dataset(folder: Path, scenes: list[Scene]) -> None:
    """The layout of every dataset folder: pictures and a samples.json that names them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    entries = [_write_scene(folder, index, scene) for index, scene in enumerate(scenes)]
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    (folder / "samples.json").write_text(text + "\n", encoding="utf-8")


def _write_scene(folder: Path, index: int, scene: Scene) -> dict[str, object]:
    name = f"{index:04d}"
    path = f"pictures/{name}.png"
    scene.picture.save(folder / path, optimize=True)
    response = scene.references[0] if len(scene.references) == 1 else list(scene.references)
    return {"id": name, "image_path": path, "request": scene.request, "response": response}


def _parse_arguments() -> argparse.Namespace:
    parser = Parser(prog="training.draw", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=whole_from(1), required=True, help="samples per dataset")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--calibration",
        action="store_true",
        help="scenes that are in no held-out set, to calibrate quantization with",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
