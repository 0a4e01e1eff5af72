"""Prints what a point costs, without running it: python -m profiling.cost [key=value …].

FLOPs and bytes by phase, weights by part, and the cache, at the real size of any family, with no
GPU, no weights and next to no memory. The keys are those of main.py; weights=random is the
default, since it stands for the real architecture.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling import PROJECT
from profiling.arguments import ending_quietly, print_anything, refuse
from profiling.costs.phase_costs import PhaseCosts
from profiling.engines.trace import COUNTED_PHASES
from profiling.errors import ConfigError
from profiling.points.configuration import read_config, read_point
from profiling.points.help import describe_cost
from profiling.points.overrides import check_overrides, explain
from profiling.points.point import Point
from profiling.probes.flops import read_costs
from profiling.records import Reading
from profiling.samples.hub import HubError

if TYPE_CHECKING:
    from profiling.engines.transformers.point_costs import PointCosts

GIGA = 1e9
_WEIGHTS = "weights="


def main() -> None:
    print_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_cost())
        return
    try:
        lines = list(describe(read_arguments(sys.argv[1:])))
    except ConfigError as error:
        refuse(error)
    except HubError as error:
        sys.exit(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    with ending_quietly():
        print("\n".join(lines))


def read_arguments(arguments: Sequence[str]) -> Point:
    """A point; its device is not used, so it may be one that this machine lacks."""
    check_overrides(arguments)
    chosen = [] if any(a.startswith(_WEIGHTS) for a in arguments) else [f"{_WEIGHTS}random"]
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("config", overrides=[*chosen, *arguments])
    return read_point(read_config(config), device="cpu", cores=1)


def describe(point: Point) -> Iterator[str]:
    """The cost of a point as lines of text."""
    # Imported here, since importing a framework takes longer than finding a misspelt argument.
    from profiling.engines.transformers.point_costs import count_point

    costs = count_point(point)
    yield from _describe_shape(point, costs)
    yield from _describe_phases(costs.phases)
    yield from _describe_parts(costs)
    yield from _describe_cache(costs)


def _describe_shape(point: Point, costs: PointCosts) -> Iterator[str]:
    parameters = sum(costs.parameters.values())
    yield f"{point.model}, weights={point.weights}: {parameters:,} parameters in {costs.dtype}"
    counted = Counter(f"{width}x{height}" for width, height in costs.sizes)
    pictures = ", ".join(f"{count} of {size}" for size, count in counted.items())
    yield (
        f"a batch of {len(costs.sizes)}, pictures: {pictures}; prompts padded to"
        f" {costs.prompt_tokens} tokens; {costs.new_tokens} new tokens"
    )


def _describe_phases(costs: PhaseCosts) -> Iterator[str]:
    readings, moved = {r.metric: r for r in read_costs(costs)}, costs.moved_bytes
    yield ""
    yield f"{'phase':<12}{'GFLOP':>16}{'GB moved':>12}{'FLOP/byte':>12}"
    for phase in COUNTED_PHASES:
        yield _phase_line(readings[f"flops_{phase}"], moved[phase])
    yield _phase_line(readings["flops"], sum(value for value in moved.values() if value))


def _phase_line(reading: Reading, moved: int | None) -> str:
    if reading.value is None:
        return f"{reading.phase:<12}{'-':>16}  {reading.source}"
    line = f"{reading.phase:<12}{reading.value / GIGA:>16,.3f}"
    if not moved:
        return line
    return line + f"{moved / GIGA:>12,.3f}{reading.value / moved:>12,.1f}"


def _describe_parts(costs: PointCosts) -> Iterator[str]:
    yield ""
    yield f"{'part':<12}{'parameters':>16}{'GB':>12}"
    total = sum(costs.parameters.values())
    for part, elements in [*costs.parameters.items(), ("total", total)]:
        yield f"{part:<12}{elements:>16,}{elements * costs.element_bytes / GIGA:>12,.3f}"


def _describe_cache(costs: PointCosts) -> Iterator[str]:
    yield ""
    yield f"cache: {costs.cache_bytes:,} bytes a decoded token of each row"
    if costs.encoded_cache_bytes:
        yield f"cache: {costs.encoded_cache_bytes:,} bytes an encoded token of each row"


if __name__ == "__main__":
    main()
