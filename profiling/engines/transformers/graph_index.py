"""Where the graphs of a point are: found before anything is loaded, made by another process.

The process that measures never holds the weights that a runtime has: what is not cached is exported
by a process of its own, which ends before the model is loaded.

    python -m profiling.engines.transformers.graph_index < point.json
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from profiling import import_path
from profiling.engines.transformers.memory_errors import is_out_of_memory
from profiling.engines.transformers.optimizations.optimization import Precision, read_stack
from profiling.errors import Unsupported, one_line
from profiling.files import LARGEST_SETTINGS, read_json
from profiling.graphs.choices import WHOLE
from profiling.graphs.graph_cache import cached_text, cached_vision, digest_code, makers
from profiling.graphs.own_formats import own_text, own_vision
from profiling.graphs.quantize import weight_bits
from profiling.machine.cache import cache_root
from profiling.machine.machine import oom_kill_count, tell_oom_kill
from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model
from profiling.models.weights import locate
from profiling.parts.artifacts import find_damage, write_json
from profiling.points.point import Point
from profiling.runtimes.offered import OWN_FORMATS, TEXT, VISION
from profiling.runtimes.runtime import RuntimeAbsent, find_runtime

_LOG = logging.getLogger("profiling")
_UNSUPPORTED, _OUT_OF_MEMORY = 3, 4
_HALF = {"torch.float16": "float16", "torch.bfloat16": "bfloat16"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graphs:
    """The graph of the vision part, the folder of the text parts, and how weights are stored."""

    vision: Path | None
    text: Path | None
    precision: str

    @property
    def folders(self) -> list[Path]:
        found = [self.vision and self.vision.parent, self.text]
        return [folder for folder in found if folder is not None]

    @property
    def are_there(self) -> bool:
        """Whether every graph is there as it was made."""
        for folder in self.folders:
            if not folder.is_dir():
                return False
            damage = find_damage(folder)
            if damage is not None:
                _LOG.warning(f"{folder}: {damage}: the graphs are exported again")
                return False
        return True


def wanted_parts(point: Point) -> tuple[str, ...]:
    """The parts that a runtime runs; none for an engine without one."""
    if "runtime" not in point.engine_settings:
        return ()
    return tuple(point.engine_settings["parts"] or (VISION, TEXT))


def load_plan(point: Point) -> LoadPlan:
    """How the model is loaded that is exported: in the dtype of the stack, and not quantized."""
    plan = LoadPlan(dtype=None)
    for optimization in read_stack(point.optimization_settings):
        if isinstance(optimization, Precision):
            plan = optimization.plan(plan)
    return plan


def find(point: Point) -> Graphs | None:
    """The graphs of a point, if they were made and are as they were made."""
    try:
        graphs = _read(read_json(_entry(point), at_most=LARGEST_SETTINGS))
    except (OSError, ValueError, KeyError, TypeError):
        # No entry, or one that cannot be read: the graphs are found again by their content.
        return None
    return graphs if graphs.are_there else None


def _read(found: Mapping[str, Any]) -> Graphs:
    places = {name: None if found[name] is None else Path(found[name]) for name in (VISION, "text")}
    return Graphs(vision=places[VISION], text=places["text"], precision=found["precision"])


def ensure(point: Point) -> Graphs:
    """The graphs of a point, made by another process if they are missing."""
    found = find(point)
    if found is not None:
        return found
    _make_elsewhere(point)
    made = find(point)
    if made is None:
        raise RuntimeError(f"the graphs of {point.label()} were made and are not there")
    return made


def _make_elsewhere(point: Point) -> None:
    before = oom_kill_count()
    done = subprocess.run(
        [sys.executable, "-m", "profiling.engines.transformers.graph_index"],
        input=json.dumps(dataclasses.asdict(point), default=list),
        env={**os.environ, "PYTHONPATH": import_path()},
        capture_output=True,
        text=True,
    )
    if done.returncode == _UNSUPPORTED:
        raise Unsupported(done.stderr.splitlines()[-1])
    if done.returncode == _OUT_OF_MEMORY:
        raise MemoryError(f"exporting: {done.stderr.splitlines()[-1]}")
    by_kernel = tell_oom_kill(done.returncode, before)
    if by_kernel is not None:
        raise MemoryError(f"exporting was killed: {by_kernel}")
    if done.returncode:
        raise RuntimeError(
            f"exporting ended with status {done.returncode}: {done.stderr.strip()[-2000:]}"
        )


def make(point: Point) -> Graphs:
    """Load the whole model and export the wanted parts; graphs of the same content are shared."""
    model = load_model(point, load_plan(point))
    return export(point, model)


def export(point: Point, model: Model) -> Graphs:
    """The graphs of a model that was loaded for this point; notes where they are."""
    settings, parts = point.engine_settings, wanted_parts(point)
    precision = settings["precision"] or _HALF.get(str(model.dtype), WHOLE)
    provider = settings.get("provider")
    own = precision in OWN_FORMATS.get(settings["runtime"], ())
    stored = WHOLE if own else precision
    vision = text = None
    if VISION in parts:
        vision = cached_vision(
            model,
            layout="single",
            parts=1,
            simplify=False,
            quantize=None if stored == WHOLE else stored,
            optimize=False,
            provider=provider,
        )
    if TEXT in parts:
        text = cached_text(model, precision=stored, provider=provider)
    if own:
        vision, text = _store(point, model, vision, text, precision)
    places = {VISION: vision and str(vision), "text": text and str(text)}
    write_json(_entry(point), {**places, "precision": precision})
    return Graphs(vision=vision, text=text, precision=precision)


def _store(
    point: Point, model: Model, vision: Path | None, text: Path | None, precision: str
) -> tuple[Path | None, Path | None]:
    """The graphs in the format of the runtime that opens them."""
    settings = point.engine_settings
    runtime = find_runtime(settings["runtime"]).of(
        device=point.device, threads=point.threads, settings=settings
    )
    return (
        vision and own_vision(model, vision, runtime, precision=precision),
        text and own_text(model, text, runtime, precision=precision),
    )


def _entry(point: Point) -> Path:
    """The file that says where a point's graphs are, by all that they depend on."""
    source = locate(point)
    facts = {
        "weights": source.digest,
        "random": [point.seed, point.public_dtype] if source.values == "random" else None,
        "model": point.model,
        "dtype": str(load_plan(point).dtype),
        "parts": sorted(wanted_parts(point)),
        "precision": [
            point.engine_settings["precision"],
            weight_bits(point.engine_settings["precision"]),
        ],
        "stored_by": _storing(point),
        "provider": point.engine_settings.get("provider"),
        "device": point.device,
        "code": digest_code(),
        "versions": makers(),
    }
    text = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cache_root() / "onnx" / "index" / f"{name}.json"


def _storing(point: Point) -> dict[str, str]:
    """The versions of what stores weights in a format of its own."""
    settings = point.engine_settings
    if settings["precision"] not in OWN_FORMATS.get(settings["runtime"], ()):
        return {}
    kind = find_runtime(settings["runtime"])
    return {package: version(package) for package in kind.stores_with}


def main() -> None:
    import torch

    point = Point(**json.load(sys.stdin))
    torch.set_num_threads(point.threads)
    try:
        make(point)
    except RuntimeAbsent as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(_UNSUPPORTED) from None
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        print(one_line(f"{type(problem).__name__}: {problem}"), file=sys.stderr)
        raise SystemExit(_OUT_OF_MEMORY) from None


if __name__ == "__main__":
    main()
