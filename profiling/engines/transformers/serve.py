"""Serves an embedded or local checkpoint with `transformers serve`, on this machine only.

The library's server builds processors that need torchvision for some families. This command puts
the project's processor of the family in their place, and changes nothing else:

    python -m profiling.engines.transformers.serve --model NAME [--folder FOLDER] [--port 8000]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from profiling.models.loading import find_family
from profiling.models.weights import CHECKPOINTS, check_folder
from profiling.points.options import list_families

LOOPBACK = "127.0.0.1"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m profiling.engines.transformers.serve")
    parser.add_argument("--model", required=True, choices=list_families())
    parser.add_argument("--folder", type=Path, help="a checkpoint; else the embedded one")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--resize",
        action="store_true",
        help="have the processor resize pictures to the sizes that its settings allow; else it"
        " takes them as they are sent",
    )
    return parser.parse_args()


def make_processor(model: str, folder: Path, *, resize: bool) -> Any:
    """The project's processor of a family, which needs no torchvision."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    options = {"local_files_only": True}
    family = find_family(model).load(config=config, folder=folder, processor_options=options)
    processor = family.processing.processor
    if not resize:
        processor.image_processor.do_resize = False
    return processor


def serve(arguments: argparse.Namespace) -> None:
    import torch
    import transformers
    from transformers.cli.serve import Serve

    folder = (arguments.folder or CHECKPOINTS / "tiny" / arguments.model).resolve()
    check_folder(folder, arguments.model)
    processor = make_processor(arguments.model, folder, resize=arguments.resize)
    transformers.AutoProcessor.from_pretrained = lambda *_, **__: processor
    torch.set_num_threads(arguments.threads)
    address = f"http://{LOOPBACK}:{arguments.port}/v1"
    print(f"engine=endpoint engine.url={address} engine.model={folder}", flush=True)
    Serve(
        force_model=str(folder),
        host=LOOPBACK,
        port=arguments.port,
        device=arguments.device,
        dtype=arguments.dtype,
        log_level="error",
    )


if __name__ == "__main__":
    serve(parse())
