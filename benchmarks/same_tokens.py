"""Whether an engine or an optimization gives the plain model's tokens on all embedded samples.

    python -m benchmarks.same_tokens engine=onnxruntime engine=openvino optimization=prompt_lookup

Each of these variants and the plain model in float32 answer all samples of the three data sets, one
at a time and in left-padded batches of four whose pictures have four shapes. A finished family of a
variant is in the output and is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from profiling import PROJECT
from profiling.captures.point_calls import SHAPES, cut_shown, load_engine
from profiling.errors import ConfigError, Unsupported
from profiling.machine.machine import describe_machine, git_state
from profiling.points.configuration import compose_config, read_point
from profiling.points.options import list_families, list_options
from profiling.points.point import Point
from profiling.records import write_json
from profiling.samples.samples import load_samples

PLAIN = ("engine=torch", "optimization=baseline", "threads=1")
BATCHES = (1, 4)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One batch of a data set, prepared for a family."""

    dataset: str
    batch_size: int
    ids: tuple[str, ...]
    prepared: Sequence[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="+", help="keys of main.py, commas between several")
    parser.add_argument("--model", nargs="+", default=list_families())
    parser.add_argument("--samples", type=int, help="of each data set; all, if not given")
    parser.add_argument("--tokens", type=int, default=50, help="of each answer, at most")
    parser.add_argument("--output", type=Path, default=PROJECT / "benchmarks" / "same_tokens.json")
    chosen = parser.parse_args()
    rows = read_rows(chosen.output)
    for model in chosen.model:
        for variant in chosen.variants:
            if any((row["model"], row["variant"]) == (model, variant) for row in rows):
                continue
            for row in compare(model, variant, chosen.samples, chosen.tokens):
                rows.append(row)
                print(describe(row), flush=True)
            machine = describe_machine().to_dict()
            write_json(chosen.output, {"machine": machine, "git": git_state(PROJECT), "rows": rows})


def read_rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def compare(model: str, variant: str, count: int | None, length: int) -> Iterator[dict[str, Any]]:
    plain, side = load_engine(read(model, *PLAIN)), read(model).img_size
    for size in BATCHES:
        told: dict[str, Any] = {"model": model, "variant": variant, "batch_size": size}
        try:
            engine = load_engine(read(model, *PLAIN, f"batch_size={size}", *variant.split(",")))
        except (Unsupported, ConfigError) as problem:
            yield {**told, "unsupported": str(problem)}
            continue
        torch.set_num_threads(1)
        for dataset in list_options("dataset"):
            begun, seen = time.monotonic(), 0
            differing: list[dict[str, Any]] = []
            for asked in ask(plain, model, dataset, size, count):
                seen += len(asked.ids)
                wanted, found = (answer(one, asked, side, length) for one in (plain, engine))
                differing += list(differences(asked.ids, wanted, found))
            yield {
                **told,
                "dataset": dataset,
                "samples": seen,
                "equal": seen - len(differing),
                "differing": differing,
                "took_s": round(time.monotonic() - begun, 1),
            }
        engine.close()
    plain.close()


def read(model: str, *overrides: str) -> Point:
    return read_point(compose_config([f"model={model}", *overrides]), device="cpu", cores=1)


def ask(engine: Any, model: str, dataset: str, size: int, count: int | None) -> Iterator[Asked]:
    point = read(model, f"dataset={dataset}")
    samples = load_samples(Path(point.dataset_folder), count=count, at_most=None)
    for start in range(0, len(samples), size):
        group = samples[start : start + size]
        prepared = engine.prepare(group, None)
        if size > 1:
            cut = [cut_shown(one.shown, SHAPES[i]) for i, one in enumerate(prepared)]
            prepared = [replace(one, shown=shown) for one, shown in zip(prepared, cut, strict=True)]
        yield Asked(
            dataset=dataset,
            batch_size=size,
            ids=tuple(sample.id for sample in group),
            prepared=prepared,
        )


def answer(engine: Any, asked: Asked, side: int | None, length: int) -> list[list[int]]:
    inputs = engine.place(engine.encode(asked.prepared, side))
    made = engine.generate(inputs, length=length, exact=False, trace=None)
    return [list(row) for row in engine.tokens(made)]


def differences(
    ids: Sequence[str], wanted: Sequence[list[int]], found: Sequence[list[int]]
) -> Iterator[dict[str, Any]]:
    for name, right, given in zip(ids, wanted, found, strict=True):
        if right != given:
            pairs = zip(right, given, strict=False)
            first = next(
                (i for i, (a, b) in enumerate(pairs) if a != b), min(map(len, (right, given)))
            )
            yield {"sample": name, "first_token": first}


def describe(row: dict[str, Any]) -> str:
    if "unsupported" in row:
        found = f"unsupported: {row['unsupported']}"
    else:
        found = f"{row['dataset']}: {row['equal']} of {row['samples']} equal"
    return f"{row['model']} {row['variant']}, batch {row['batch_size']}: {found}"


if __name__ == "__main__":
    main()
