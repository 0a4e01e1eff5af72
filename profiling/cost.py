"""Prints what a point costs, without running it: python -m profiling.cost [key=value …].

FLOPs and bytes by phase, weights by part, and the cache, at the real size of any family, with no
GPU, no weights and next to no memory. The keys are those of main.py; weights=random is the
default, since it stands for the real architecture.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling import PROJECT
from profiling.arguments import refuse
from profiling.costs.traffic import moved_bytes
from profiling.costs.twin import Costs, Twin, count
from profiling.engines.transformers.optimizations.optimization import read_stack
from profiling.engines.workload import Workload
from profiling.errors import ConfigError
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.loading import LoadPlan, load_family
from profiling.models.model import Model
from profiling.models.weights import locate
from profiling.points.configuration import read_point
from profiling.points.point import Point
from profiling.probes.flops import FlopsProbe, geometry_of
from profiling.records import Reading
from profiling.runs.sweep import check_overrides, explain, read_config
from profiling.samples.hub import HubError
from profiling.samples.samples import Sample, full_batches, load_samples

GIGA = 1e9
_PHASES = ("vision", "projector", "prefill", "decode")
_WEIGHTS = "weights="


def main() -> None:
    try:
        lines = list(describe(read_arguments(sys.argv[1:])))
    except ConfigError as error:
        refuse(error)
    except HubError as error:
        sys.exit(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    print("\n".join(lines))


def read_arguments(arguments: Sequence[str]) -> Point:
    """A point; its device is of no account here, so it may be one that this machine has not."""
    check_overrides(arguments)
    chosen = [] if any(a.startswith(_WEIGHTS) for a in arguments) else [f"{_WEIGHTS}random"]
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("config", overrides=[*chosen, *arguments])
    return read_point(read_config(config), device="cpu", cores=1)


def describe(point: Point) -> Iterator[str]:
    """The cost of a point as lines of text."""
    family, dtype = _load_family(point)
    twin = Twin(family=family, attention="sdpa")
    workload = Workload(
        model=Model(
            network=twin.network,
            family=family,
            device=torch.device("meta"),
            dtype=dtype,
            stored_values=False,
        ),
        batches=full_batches(_read_samples(point), point.batch_size),
        img_size=point.img_size,
        prompt_len=point.prompt_len,
        max_new_tokens=point.max_new_tokens,
        preload=False,
    )
    counts = {name: p.numel() for name, p in twin.network.named_parameters()}
    sizes = {name: elements * dtype.itemsize for name, elements in counts.items()}
    geometry = geometry_of(workload)
    costs = count(family, geometry)
    moved = moved_bytes(costs, sizes, cache_element_bytes=dtype.itemsize)
    yield from _describe_shape(point, geometry, sum(counts.values()), dtype)
    yield from _describe_phases(workload, moved)
    yield from _describe_parts(twin, costs, counts, dtype.itemsize)
    yield from _describe_cache(costs, dtype.itemsize)


def _load_family(point: Point) -> tuple[Family, torch.dtype]:
    source = locate(point)
    family = load_family(point, source)
    plan = LoadPlan(dtype=None)
    for optimization in read_stack(point.optimization_settings):
        plan = optimization.plan(plan)
    named = point.public_dtype if source.values == "random" else family.config.dtype
    named = named if isinstance(named, torch.dtype) else getattr(torch, str(named or "float32"))
    return family, plan.dtype or named


def _read_samples(point: Point) -> list[Sample]:
    """As many as the first full batch takes."""
    at_most = point.num_samples or point.batch_size
    return load_samples(Path(point.dataset_folder), count=None, at_most=at_most)


def _describe_shape(
    point: Point, geometry: Geometry, parameters: int, dtype: torch.dtype
) -> Iterator[str]:
    yield f"{point.model}, weights={point.weights}: {parameters:,} parameters in {_name(dtype)}"
    counted = Counter(f"{width}x{height}" for width, height in geometry.sizes)
    pictures = ", ".join(f"{count} of {size}" for size, count in counted.items())
    yield (
        f"a batch of {geometry.batch_size}, pictures: {pictures}; prompts padded to"
        f" {geometry.prompt_tokens} tokens; {geometry.new_tokens} new tokens"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _describe_phases(workload: Workload, moved: Mapping[str, int | None]) -> Iterator[str]:
    readings = {r.metric: r for r in FlopsProbe(cross_check=False).measure(workload)}
    yield ""
    yield f"{'phase':<12}{'GFLOP':>16}{'GB moved':>12}{'FLOP/byte':>12}"
    for phase in _PHASES:
        yield _phase_line(readings[f"flops_{phase}"], moved[phase])
    yield _phase_line(readings["flops"], sum(value for value in moved.values() if value))


def _phase_line(reading: Reading, moved: int | None) -> str:
    if reading.value is None:
        return f"{reading.phase:<12}{'-':>16}  {reading.source}"
    line = f"{reading.phase:<12}{reading.value / GIGA:>16,.3f}"
    if not moved:
        return line
    return line + f"{moved / GIGA:>12,.3f}{reading.value / moved:>12,.1f}"


def _describe_parts(
    twin: Twin, costs: Costs, counts: Mapping[str, int], element_bytes: int
) -> Iterator[str]:
    by_part: Counter[str] = Counter()
    for name, elements in counts.items():
        by_part[_part_of(twin, costs, name)] += elements
    yield ""
    yield f"{'part':<12}{'parameters':>16}{'GB':>12}"
    for part, elements in [*by_part.items(), ("total", by_part.total())]:
        yield f"{part:<12}{elements:>16,}{elements * element_bytes / GIGA:>12,.3f}"


def _part_of(twin: Twin, costs: Costs, name: str) -> str:
    parts = twin.family.layout.parts
    # A head that is tied to the embedding goes by the embedding's name.
    if name in {twin.names[id(weight)] for weight in twin.part(parts.head).parameters()}:
        return "head"
    places = [
        *(("projector", path) for path in parts.projector),
        ("vision", parts.vision),
        *((("text encoder", parts.text_encoder),) if parts.text_encoder else ()),
        ("decoder" if name in costs.prefill.weights else "embeddings", parts.language),
    ]
    return next((part for part, path in places if name.startswith(path + ".")), "other")


def _describe_cache(costs: Costs, element_bytes: int) -> Iterator[str]:
    cache = costs.cache
    yield ""
    yield f"cache: {cache.elements * element_bytes:,} bytes a decoded token of each row"
    if cache.encoded_elements:
        encoded = cache.encoded_elements * element_bytes
        yield f"cache: {encoded:,} bytes an encoded token of each row"


if __name__ == "__main__":
    main()
