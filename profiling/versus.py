"""Compares two points: python -m profiling.versus "A" "B" [key=value …] [--launches N].

A and B are overrides of main.py separated by blanks, and what follows holds for both. Both points
are loaded in processes of their own whose passes alternate, several times in fresh processes. The
ratio is the time of A over the time of B, with its 95% interval, whole and by phase.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling.arguments import (
    Parser,
    ending_quietly,
    print_anything,
    refuse,
    require_writable,
    whole_from,
)
from profiling.errors import ConfigError
from profiling.machine.locks import LockError
from profiling.models.weights import describe_weights
from profiling.points.configuration import compose_config
from profiling.points.overrides import check_overrides, explain
from profiling.records import Comparison, write_json
from profiling.runs.paired.baselines import list_comparisons
from profiling.runs.paired.locked import compare
from profiling.runs.paired.opposed import Opposed, require_shared
from profiling.runs.paired.showing import show
from profiling.runs.paired.side import SideFailed
from profiling.runs.progress import Progress
from profiling.runs.session import Plan, plan_point
from profiling.runs.sweep import INTERRUPTED, interruptible

MEASURED, SIDE_FAILED = 0, 1


def main() -> int:
    print_anything()
    parser = Parser(prog="python -m profiling.versus", description=__doc__.partition("\n")[0])
    parser.add_argument("a", metavar="A", help='overrides of one side: "optimization=baseline"')
    parser.add_argument("b", metavar="B", help="overrides of the other side")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="holds for both sides")
    parser.add_argument("--launches", type=whole_from(1), help="exactly so many, whatever it takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison there too")
    given = parser.parse_intermixed_args()
    try:
        a, b = (plan_side(text, given.overrides) for text in (given.a, given.b))
        require_shared(a, b)
        if given.json is not None:
            require_writable("--json", given.json)
    except ConfigError as error:
        refuse(error)
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    opposed = Opposed(
        a=a,
        b=b,
        launches=given.launches or a.point.launches,
        is_fixed=given.launches is not None,
    )
    with ending_quietly():
        return _run(opposed, given.json)


def plan_side(text: str, shared: Sequence[str]) -> Plan:
    """A checked point; what a side says replaces what both sides share."""
    try:
        own = shlex.split(text)
    except ValueError as error:
        raise ConfigError(text, "", f"cannot be read: {error}") from None
    check_overrides([*shared, *own])
    _check_single([*shared, *own])
    said = {_key_of(one) for one in own}
    overrides = [one for one in shared if _key_of(one) not in said] + own
    return plan_point(compose_config(overrides))


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _check_single(overrides: Sequence[str]) -> None:
    """Refuse sweeps: a comparison has two points."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override() or override.key_or_group == "experiment":
            key, _, value = str(override.input_line).partition("=")
            raise ConfigError(key, value, "allowed is one value: a comparison has two points")


def _run(opposed: Opposed, file: Path | None) -> int:
    for line in dict.fromkeys(describe_weights(plan.point) for plan in opposed.plans.values()):
        print(line, flush=True)
    if opposed.a.point.dry:
        for line in list_comparisons([opposed]):
            print(line)
        return MEASURED
    progress = Progress(total=1)
    progress.begin(opposed.label())
    try:
        with interruptible():
            comparison, was_kept = compare(opposed, notify=progress.phase)
    except SideFailed as failed:
        return _give_up(f"{failed.side.upper()} {failed.status}: {failed.error}")
    except (LockError, OSError) as error:
        return _give_up(f"there is no comparison: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    progress.end(f"{'kept' if was_kept else 'measured'} in {comparison.folder}", measured=True)
    return _tell(comparison, file)


def _give_up(line: str) -> int:
    print(line, file=sys.stderr)
    return SIDE_FAILED


def _tell(comparison: Comparison, file: Path | None) -> int:
    # First of all: a reader that has seen enough of the text still wants the file.
    if file is not None:
        write_json(file, comparison.content)
    with ending_quietly(MEASURED):
        print("\n".join(show(comparison)), flush=True)
    return MEASURED


if __name__ == "__main__":
    sys.exit(main())
