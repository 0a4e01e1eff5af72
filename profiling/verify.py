"""Judges captured calls: python -m profiling.verify FOLDER

Without more, the original is run on its own calls and has to give the same bits. --functions
judges functions that do the modules' work, --engine another engine's parts, and --against tells
where another capture of the same run parts from this one.

Exit status: 0 everything agrees, 1 something differs, 2 it cannot be judged.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling.arguments import Parser, ending_quietly, print_anything, refuse, require_writable
from profiling.capture import compose_point
from profiling.errors import ConfigError, Unsupported, printable
from profiling.points.options import list_options
from profiling.points.overrides import explain
from profiling.samples.hub import HubError

if TYPE_CHECKING:
    from profiling.captures.findings import Findings
    from profiling.captures.folder import Capture

_LIBRARIES = ("torch", "numpy", "jax")
_TOLERANCE = 1e-5


def main(arguments: Sequence[str] | None = None) -> None:
    print_anything()
    chosen = make_parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        findings = find(chosen)
    except (ConfigError, Unsupported, HubError) as error:
        refuse(error)
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    tell(findings, chosen)
    sys.exit(findings.status)


def make_parser() -> Parser:
    parser = Parser(
        prog="profiling.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="what python -m profiling.capture wrote")
    add("--functions", metavar="FILE", help="a .py file or a module with a table MODULES")
    add("--library", choices=_LIBRARIES, default="torch", help="the functions' arrays")
    add("--engine", choices=list_options("engine"), help="judge the parts of this engine instead")
    add("--optimization", help="judge the parts as this optimization makes them")
    add("--against", type=Path, metavar="FOLDER", help="another capture of the same run")
    add("--tolerance", type=float, help=f"relative error, for --against ({_TOLERANCE:g})")
    add("--device", default="cpu", help="where the original runs")
    add("--html", type=Path, metavar="FILE", help="write a page")
    add("--json", type=Path, metavar="FILE", help="write every call's numbers")
    return parser


def find(chosen: argparse.Namespace) -> Findings:
    _check_choices(chosen)
    if not chosen.folder.is_dir():
        raise ConfigError("capture", chosen.folder, "there is no such folder")
    # Imported here, so that a wrong argument is reported before a framework is imported.
    from profiling.captures.folder import Capture

    capture = Capture(chosen.folder)
    if chosen.against is not None:
        tolerance = _TOLERANCE if chosen.tolerance is None else chosen.tolerance
        return _compare(capture, Capture(chosen.against), tolerance)
    if chosen.functions is not None:
        return _judge_functions(capture, chosen)
    if chosen.engine is not None or chosen.optimization is not None:
        return _judge_parts(capture, chosen)
    return _replay(capture, chosen)


def _check_choices(chosen: argparse.Namespace) -> None:
    parts = chosen.engine is not None or chosen.optimization is not None
    asked = (chosen.functions is not None) + (chosen.against is not None) + parts
    if asked > 1:
        reason = "one of --functions, --engine (with --optimization) and --against at a time"
        raise ConfigError("verify", chosen.folder, reason)
    if chosen.library != "torch" and chosen.functions is None:
        raise ConfigError("--library", chosen.library, "goes with --functions")
    tolerance = chosen.tolerance
    if tolerance is not None and not tolerance >= 0:
        raise ConfigError("--tolerance", tolerance, "allowed is a number from 0")
    if tolerance is not None and chosen.against is None:
        raise ConfigError("--tolerance", tolerance, "goes with --against")
    for key in ("html", "json"):
        path = getattr(chosen, key)
        if path is not None:
            require_writable(f"--{key}", path)


def _replay(capture: Capture, chosen: argparse.Namespace) -> Findings:
    from profiling.captures.findings import of_replays
    from profiling.captures.replay import replay_all

    network = _original(capture, chosen.device)
    return of_replays(capture, list(replay_all(capture, network, chosen.device)))


def _judge_functions(capture: Capture, chosen: argparse.Namespace) -> Findings:
    from profiling.captures.array_libraries import open_library
    from profiling.captures.judgements import judge_functions
    from profiling.captures.loading_functions import load_functions

    library = open_library(chosen.library)
    table = load_functions(chosen.functions)
    own = table.make_original()
    network = own if own is not None else _original(capture, chosen.device)
    return judge_functions(capture, network, table.functions, library)


def _judge_parts(capture: Capture, chosen: argparse.Namespace) -> Findings:
    from profiling.captures.judgements import judge_parts
    from profiling.captures.originals import overrides_of
    from profiling.captures.point_calls import load_engine

    network = _original(capture, chosen.device)
    changed = {"engine": chosen.engine, "optimization": chosen.optimization}
    added = [f"{key}={value}" for key, value in changed.items() if value is not None]
    kept = [
        text
        for text in overrides_of(capture)
        if not (chosen.optimization and text.startswith("optimization"))
    ]
    engine = load_engine(compose_point([*kept, *added], chosen.device))
    return judge_parts(capture, network, engine)


def _compare(capture: Capture, other: Capture, tolerance: float) -> Findings:
    from profiling.captures.divergence import compare
    from profiling.captures.findings import of_divergence

    return of_divergence(capture, other, compare(capture, other, tolerance=tolerance))


def _original(capture: Capture, device: str) -> Any:
    from profiling.captures.originals import load_original, overrides_of, set_threads

    set_threads(capture)
    return load_original(capture, compose_point(overrides_of(capture), device))


def tell(findings: Findings, chosen: argparse.Namespace) -> None:
    from profiling.captures.page import write_page
    from profiling.captures.table import lines
    from profiling.parts.artifacts import write_json

    # Files first: the reader of what is printed, such as `head`, may close the pipe.
    if chosen.json is not None:
        write_json(chosen.json, findings.as_json())
    if chosen.html is not None:
        write_page(findings, chosen.html, title=str(chosen.folder))
    width = shutil.get_terminal_size((80, 24)).columns
    with ending_quietly(findings.status):
        print("\n".join(map(printable, lines(findings, width=max(width, 60)))))


if __name__ == "__main__":
    main()
