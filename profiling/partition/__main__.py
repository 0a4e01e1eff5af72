"""Splits a model, converts its vision part, runs every form and compares the answers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from profiling.arguments import Parser, print_anything, refuse, whole_from
from profiling.errors import ConfigError
from profiling.graphs.choices import LAYOUTS
from profiling.machine.gpus import ORDER
from profiling.machine.machine import resolve_device, usable_cores
from profiling.partition.converters.converter import (
    find_converter,
    list_engines,
    require_package,
)
from profiling.points.configuration import compose_config, read_point
from profiling.points.options import list_families, list_options
from profiling.points.point import Point
from profiling.samples.hub import HubError
from profiling.samples.pictures import PictureError, read_picture
from profiling.samples.samples import Sample, load_samples

_ALL = ("original", "split_native", "convert_onnx", "run_onnx", "save_standalone")
# With what is written in the format of one engine.
_OF_AN_ENGINE = ("convert", "run_engine")
# Not among those of `all`, since each takes a while.
_ALONE = ("export_parts", *_OF_AN_ENGINE)
# What the modes of `all` take: how the vision part is stored alone.
_OF_A_SPLIT = {
    "quantize": False,
    "simplify": False,
    "pt": False,
    "onnx_layout": "single",
    "parts": None,
}
_PARTS = 2
_DTYPES = ("float32", "float16", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> None:
    print_anything()
    chosen = make_parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.update(ORDER)
    try:
        _run(chosen)
    except (ConfigError, PictureError) as error:
        refuse(error)
    except HubError as error:
        sys.exit(str(error))


def make_parser() -> Parser:
    parser = Parser(prog="profiling.partition", description=__doc__)
    add = parser.add_argument
    add("--mode", required=True, choices=[*_ALL, *_ALONE, "all"])
    add("--model", choices=list_families(), help="default: that of conf/config.yaml")
    add(
        "--weights",
        choices=list_options("weights"),
        help="default: tiny, or what --checkpoint holds",
    )
    add("--checkpoint", help="a hub id or a folder")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", default="float32", choices=_DTYPES, help="dtype of everything but the graph")
    add("--image", type=Path, help="default: an embedded sample's")
    add("--text", help="default: the embedded sample's question")
    add("--max-tokens", type=whole_from(1), default=128)
    add("--output-dir", type=Path, default=Path("split_models"))
    add("--quantize", action="store_true", help="the graph's weights in eight bits")
    add("--pt", action="store_true", help="write vision_model.pt too, weights only")
    add("--onnx-layout", default="single", choices=LAYOUTS)
    add(
        "--parts",
        type=whole_from(1),
        help=f"how many files --onnx-layout parts makes; default: {_PARTS}",
    )
    add("--engine", choices=list_engines(), help="of --mode convert and --mode run_engine")
    add(
        "--prompt-lengths",
        type=whole_from(1),
        nargs="+",
        metavar="TOKENS",
        help="lengths of prompts that --mode convert writes programs of a fixed shape for",
    )
    add("--simplify", action="store_true", help="run a graph simplifier over the graph")
    return parser


def _run(chosen: argparse.Namespace) -> None:
    _check_split(chosen)
    _check_engine(chosen)
    point = _read_point(chosen)
    sample = _read_sample(chosen, point)
    _check_layout(chosen)
    _check_output(chosen.output_dir)
    modes = _ALL if chosen.mode == "all" else (chosen.mode,)
    if modes == ("run_onnx",):
        _check_there(chosen, "onnx_model/vision_model.onnx", "--mode convert_onnx")
    if modes == ("run_engine",):
        manifest = f"engines/{chosen.engine}/manifest.json"
        _check_there(chosen, manifest, f"--mode convert --engine {chosen.engine}")
    # Imported here, so that a wrong argument is reported before a framework is imported.
    from profiling.partition.modes import FAILURES, run_modes

    try:
        for line in run_modes(point, sample, modes, vars(chosen)):
            print(line, flush=True)
    except FAILURES as error:
        sys.exit(str(error))


def _read_point(chosen: argparse.Namespace) -> Point:
    weights = chosen.weights or ("pretrained" if chosen.checkpoint else "tiny")
    if chosen.checkpoint and weights != "pretrained":
        allowed = "--checkpoint needs --weights pretrained, or none"
        raise ConfigError("--weights", weights, allowed)
    overrides = [f"weights={weights}", *([f"model={chosen.model}"] if chosen.model else [])]
    config = compose_config(overrides)
    config["max_new_tokens"] = chosen.max_tokens
    if chosen.checkpoint:
        # A revision belongs to the checkpoint that the yaml names.
        config["model"].update(checkpoint=chosen.checkpoint, revision=None)
    return read_point(config, device=resolve_device(chosen.device), cores=usable_cores())


def _read_sample(chosen: argparse.Namespace, point: Point) -> Sample:
    (embedded,) = load_samples(Path(point.dataset_folder), count=1, at_most=None)
    picture = (chosen.image or embedded.picture).absolute()
    try:
        read_picture(picture)
    except PictureError as error:
        raise ConfigError("--image", picture, str(error)) from None
    if chosen.text is not None and not chosen.text.strip():
        raise ConfigError("--text", chosen.text, "allowed is a question that is not empty")
    text = embedded.request if chosen.text is None else chosen.text
    return Sample(id=picture.stem, pictures=(picture,), request=text, references=("",))


def _check_output(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be created as a folder: {error.strerror}"
        raise ConfigError("--output-dir", folder, reason) from None


def _check_there(chosen: argparse.Namespace, name: str, first: str) -> None:
    path = chosen.output_dir / name
    if not path.is_file():
        raise ConfigError("--mode", chosen.mode, f"there is no {path}: run {first} first")


def _check_split(chosen: argparse.Namespace) -> None:
    """Refuse what a mode would not look at."""
    if chosen.mode not in _ALONE:
        return
    for name, default in _OF_A_SPLIT.items():
        if getattr(chosen, name) != default:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError("--mode", chosen.mode, f"{option} is for what --mode all runs")


def _check_layout(chosen: argparse.Namespace) -> None:
    """Options that belong to one layout stand beside that one."""
    if chosen.quantize and chosen.onnx_layout != "single":
        raise ConfigError("--onnx-layout", chosen.onnx_layout, "--quantize needs single")
    if chosen.parts is not None and chosen.onnx_layout != "parts":
        raise ConfigError("--parts", chosen.parts, "it belongs to --onnx-layout parts")
    chosen.parts = chosen.parts or _PARTS


def _check_engine(chosen: argparse.Namespace) -> None:
    """The engine of the modes that have one: it is named, installed, and on the processor."""
    if chosen.mode not in _OF_AN_ENGINE:
        for name in ("engine", "prompt_lengths"):
            value = getattr(chosen, name)
            if value is not None:
                option = f"--{name.replace('_', '-')}"
                modes = " and ".join(f"--mode {mode}" for mode in _OF_AN_ENGINE)
                raise ConfigError(option, value, f"it belongs to {modes}")
        return
    if chosen.engine is None:
        engines = ", ".join(list_engines())
        raise ConfigError("--mode", chosen.mode, f"it needs --engine, one of {engines}")
    require_package(chosen.engine)
    _check_lengths(chosen)
    if chosen.device == "auto":
        chosen.device = "cpu"
    if resolve_device(chosen.device) != "cpu":
        raise ConfigError("--device", chosen.device, "converted parts run on the CPU")


def _check_lengths(chosen: argparse.Namespace) -> None:
    """Lengths of prompts are for programs of a fixed shape, when they are written."""
    if chosen.prompt_lengths is None:
        return
    if chosen.mode != "convert":
        allowed = "it belongs to --mode convert, which writes the programs"
        raise ConfigError("--prompt-lengths", chosen.prompt_lengths, allowed)
    if not find_converter(chosen.engine).fixed:
        allowed = f"what is written for {chosen.engine} takes prompts of any length"
        raise ConfigError("--prompt-lengths", chosen.prompt_lengths, allowed)


if __name__ == "__main__":
    main()
