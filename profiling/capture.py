"""Captures what the modules of a model are called with and return, on disk:

    python -m profiling.capture --model NAME --output FOLDER [key=value ...]

Keys are those of main.py that decide what is loaded and what is asked, such as
optimization=bf16. `python -m profiling.verify FOLDER` reads what is written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
from profiling.captures import BYTES, CALLS, MODULES
from profiling.errors import ConfigError, Unsupported
from profiling.machine.machine import resolve_device, usable_cores
from profiling.points.configuration import compose_config, read_point
from profiling.points.options import list_families, list_options
from profiling.points.overrides import check_overrides, explain, quote
from profiling.points.point import Point
from profiling.samples.hub import HubError

FAILED = 1
_FILE_BYTES = 64 * 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    print_anything()
    chosen = make_parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        told = run(chosen)
    except (ConfigError, Unsupported) as error:
        refuse(error)
    except HubError as error:
        sys.exit(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    with ending_quietly(0):
        print(told)


def make_parser() -> Parser:
    parser = Parser(
        prog="profiling.capture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="a folder, or a file for --weights-only")
    add("--model", choices=list_families())
    add("--weights", choices=list_options("weights"))
    add("--checkpoint", help="a hub id or a folder")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--samples", type=whole_from(0), default=1, help="answered one at a time")
    add("--uneven", type=whole_from(0), default=2, help="answered in one batch of uneven sizes")
    add("--tokens", type=whole_from(1), default=4, help="new tokens of each answer")
    add("--calls", type=whole_from(1), default=CALLS, help="at most so many of each module")
    add("--bytes", type=whole_from(1), default=BYTES, help="of the folder without the weights")
    add("--modules", action="append", metavar="GLOB", help="paths of modules; may be repeated")
    add("--max-modules", type=whole_from(1), default=MODULES)
    add("--save-weights", action="store_true", help="write weights.safetensors into the folder")
    add("--weights-only", action="store_true", help="write nothing but the weights, into --output")
    add("--part", help="with --weights-only: those of one part, such as vision")
    add("overrides", nargs="*", metavar="key=value")
    return parser


def run(chosen: argparse.Namespace) -> str:
    overrides = read_overrides(chosen)
    point = compose_point(overrides, chosen.device)
    if chosen.part is not None and not chosen.weights_only:
        raise ConfigError("--part", chosen.part, "goes with --weights-only")
    if not chosen.weights_only and not chosen.samples + chosen.uneven:
        raise ConfigError("--samples", 0, "without samples, --uneven has to be at least 1")
    # Imported here, so that a wrong argument is reported before a framework is imported.
    from profiling.captures.capturing import Bounds, require_free
    from profiling.captures.point_calls import Run, capture_point, save_point_weights

    require_free(chosen.output)
    require_writable("--output", chosen.output)
    if chosen.weights_only:
        count = save_point_weights(point, chosen.output, part=chosen.part)
        return f"{count} tensors in {chosen.output}"
    bounds = Bounds(
        modules=tuple(chosen.modules or ("*",)),
        max_modules=chosen.max_modules,
        calls=chosen.calls,
        bytes=chosen.bytes,
        file_bytes=_FILE_BYTES,
    )
    asked = Run(samples=chosen.samples, uneven=chosen.uneven, tokens=chosen.tokens)
    capture_point(
        point, asked, bounds, chosen.output, overrides=overrides, weights=chosen.save_weights
    )
    return describe(chosen.output)


def read_overrides(chosen: argparse.Namespace) -> list[str]:
    """What was typed as keys of main.py, so that the same network can be loaded again."""
    weights = chosen.weights or ("pretrained" if chosen.checkpoint else None)
    if chosen.checkpoint and weights != "pretrained":
        allowed = "--checkpoint needs --weights pretrained, or none"
        raise ConfigError("--weights", weights, allowed)
    named = {"model": chosen.model, "weights": weights}
    overrides = [f"{key}={value}" for key, value in named.items() if value]
    if chosen.checkpoint:
        # A revision belongs to the checkpoint that the yaml names.
        overrides += [f"model.checkpoint={quote(chosen.checkpoint)}", "model.revision=null"]
    overrides += chosen.overrides
    check_overrides(overrides)
    return overrides


def compose_point(overrides: Sequence[str], device: str) -> Point:
    return read_point(
        compose_config(overrides), device=resolve_device(device), cores=usable_cores()
    )


def describe(folder: Path) -> str:
    """What was captured, and what was left out, in a few lines."""
    from profiling.captures.folder import Capture
    from profiling.parts.artifacts import size_bytes

    capture = Capture(folder)
    called = {call.module for call in capture.calls}
    lines = [
        f"{len(capture.calls)} calls of {len(called)} modules, {size_bytes(folder):,} bytes,"
        f" in {folder}"
    ]
    left_out = capture.facts["left_out"]
    reasons: dict[str, int] = {}
    for counts in left_out["calls"].values():
        for reason, count in counts.items():
            reasons[reason] = reasons.get(reason, 0) + count
    lines += [f"left out: {count} calls, {reason}" for reason, count in sorted(reasons.items())]
    for key in ("modules_over_the_limit", "modules_never_called"):
        if left_out[key]:
            what = key.replace("_", " ")
            lines.append(f"left out: {len(left_out[key])} {what}, {left_out[key][0] or '(root)'} …")
    for kind, count in capture.facts["opaque"].items():
        lines.append(f"not stored: {count} values of {kind}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
