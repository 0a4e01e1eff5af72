"""Breaks down the wall time of one small point: `python -m benchmarks.start_up [key=value …]`.

Imports, model loading and generation are recorded in every process of the run from its start. The
rest of the wall time is the project's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
KINDS = ("interpreter", "import", "load", "generate")

# Python runs a module of this name in every process that has its folder on the path.
WATCHER = """
import importlib._bootstrap as machinery, json, os, threading, time
import psutil

_path = os.path.join(os.environ["START_UP_LOG"], f"{os.getpid()}.jsonl")
_local = threading.local()

def write(kind, begun, ended, name=""):
    with open(_path, "a") as stream:
        stream.write(json.dumps([kind, begun, ended, name]) + "\\n")

def timed(kind, function):
    def call(*args, **kwargs):
        begun = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            write(kind, begun, time.time())
    return call

def watch_events(function):
    def call(self, name):
        write("event", time.time(), time.time(), name)
        return function(self, name)
    return call

def arrived(name, sys):
    if name == "transformers.generation.utils":
        mixin = sys.modules[name].GenerationMixin
        mixin.generate = timed("generate", mixin.generate)
    elif name == "profiling.runs.experiment":
        sys.modules[name].load = timed("load", sys.modules[name].load)
    elif name == "profiling.runs.progress":
        progress = sys.modules[name].Progress
        progress.phase = watch_events(progress.phase)

def watch_imports(find_and_load):
    import sys
    def call(name, import_):
        outermost = not getattr(_local, "inside", False)
        _local.inside = True
        begun = time.time()
        try:
            return find_and_load(name, import_)
        finally:
            if outermost:
                _local.inside = False
                if time.time() - begun > 1e-4:
                    write("import", begun, time.time(), name)
            if name in sys.modules:
                arrived(name, sys)
    return call

machinery._find_and_load = watch_imports(machinery._find_and_load)
write("interpreter", psutil.Process().create_time(), time.time())
"""


class Stretch(NamedTuple):
    """An activity of a process, in seconds of the clock that all processes share."""

    kind: str
    begun_s: float
    ended_s: float
    name: str


class Run(NamedTuple):
    begun_s: float
    ended_s: float
    stretches: list[Stretch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs; the fastest is shown")
    parser.add_argument("overrides", nargs="*", default=["profiler=quick"])
    options = parser.parse_args()
    runs = [watch(options.overrides) for _ in range(options.runs)]
    show(min(runs, key=lambda run: run.ended_s - run.begun_s))


def watch(overrides: Sequence[str]) -> Run:
    """One run of the command line with its own results folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
        path = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        begun_s = time.time()
        subprocess.run(
            [sys.executable, "main.py", *overrides, f"results_dir={folder}/results"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "START_UP_LOG": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return Run(begun_s, time.time(), read(Path(folder)))


def read(folder: Path) -> list[Stretch]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((Stretch(*json.loads(line)) for line in lines), key=lambda s: s.begun_s)


def union_s(stretches: Iterable[Stretch], begun_s: float, ended_s: float) -> float:
    """How much of a time span is covered; overlaps count once."""
    covered, reached = 0.0, begun_s
    for stretch in sorted(stretches, key=lambda s: s.begun_s):
        upto = min(stretch.ended_s, ended_s)
        covered += max(0.0, upto - max(stretch.begun_s, reached))
        reached = max(reached, upto)
    return covered


def show(run: Run) -> None:
    events = [s for s in run.stretches if s.kind == "event"]
    work = [s for s in run.stretches if s.kind in KINDS]
    borders = [run.begun_s, *(event.begun_s for event in events), run.ended_s]
    names = ["before the worker", *(event.name for event in events)]
    print(f"{'':32}{'wall':>8}{'imports':>9}{'loading':>9}{'generate':>9}{'own':>8}   seconds")
    for name, begun_s, ended_s in zip(names, borders[:-1], borders[1:], strict=True):
        print(describe(name, work, begun_s, ended_s))
    print(describe("whole", work, run.begun_s, run.ended_s))


def describe(name: str, work: Sequence[Stretch], begun_s: float, ended_s: float) -> str:
    wall_s = ended_s - begun_s
    imports = [s for s in work if s.kind in ("interpreter", "import")]
    others = [s for s in work if s.kind not in ("interpreter", "import")]
    imports_s = union_s(imports, begun_s, ended_s)
    columns = [wall_s, imports_s]
    for kind in ("load", "generate"):
        columns.append(
            union_s([*imports, *(s for s in others if s.kind == kind)], begun_s, ended_s)
            - imports_s
        )
    own_s = wall_s - union_s(work, begun_s, ended_s)
    widths = (8, 9, 9, 9, 8)
    cells = (f"{s:{w}.3f}" for s, w in zip([*columns, own_s], widths, strict=True))
    return f"{name:32.31}" + "".join(cells)


if __name__ == "__main__":
    main()
