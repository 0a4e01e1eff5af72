"""Answers of an engine beside those of torch, in a process of its own.

    python -m tests.engines.transformers.table_runs ENGINE FAMILY COUNT [key=value …]

Paddle and MindSpore cannot share a process, and what one test compiled would count in another. The
last line that is printed is a JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.composing import PROJECT, compose_point


def run_engine(engine: str, family: str, count: int, *overrides: str) -> dict[str, Any]:
    """What `main` prints, from a process that imports no other runtime."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, engine, family, str(count), *overrides],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    from profiling.engines.transformers.engine import TransformersEngine
    from tests.tiny_models import build, load

    engine, family, count, *overrides = sys.argv[1:]
    plain = load(family, "optimization=fp32")
    chosen = (f"model={family}", f"engine={engine}", "optimization=fp32", *overrides)
    point = compose_point(*chosen)
    TransformersEngine.check(point)
    TransformersEngine.prepare_process(point)
    made = build(point)
    shapes = watch_shapes()
    rows = [
        row
        for dataset in ("textvqa", "coco", "scienceqa")
        for batch in (1, 4)
        for row in compare(plain, made, dataset, int(count), batch, point.img_size)
    ]
    runtime: Any = made.stack[0]
    runtime._runtime.begin_measuring()
    readings = {reading.metric: reading.value for reading in made.stack[0].readings()}
    others = sorted({"jax", "paddle", "mindspore"} & sys.modules.keys() - {engine})
    found = {"rows": rows, "readings": readings, "others": others, "shapes": len(shapes)}
    print(json.dumps(found))


def watch_shapes() -> set[Any]:
    """The shapes that programs are given from now on, each with its program and room."""
    from profiling.runtimes.native.native_program import NativeProgram

    seen: set[Any] = set()
    plain = NativeProgram.run_held

    def look(program: NativeProgram, feeds: Any, *, room: int | None) -> list[Any]:
        shapes = tuple(tuple(feeds[name].shape) for name in program.inputs)
        seen.add((id(program), room, shapes))
        return plain(program, feeds, room=room)

    NativeProgram.run_held = look  # type: ignore[method-assign]
    return seen


def compare(
    plain: Any, made: Any, dataset: str, count: int, batch: int, side: int
) -> list[dict[str, Any]]:
    """Each sample's tokens, padded on the left where the batch has several."""
    from profiling.samples.samples import load_samples

    samples = load_samples(PROJECT / "datasets" / dataset, count=None, at_most=count)
    rows = []
    for start in range(0, len(samples), batch):
        group = samples[start : start + batch]
        inputs = plain.place(plain.encode(plain.prepare(group, None), side))
        right, found = (
            each.tokens(each.generate(inputs, length=50, exact=False, trace=None))
            for each in (plain, made)
        )
        for sample, one, other in zip(group, right, found, strict=True):
            place = {"dataset": dataset, "sample": sample.id, "batch": batch}
            rows.append({**place, "torch": one, "engine": other})
    return rows


if __name__ == "__main__":
    main()
