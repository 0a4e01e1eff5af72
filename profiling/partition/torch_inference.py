"""Answers questions about pictures with parts in the format of torch.export (.pt2).

    python torch_inference.py --image PICTURE --text "what is in the picture?"

It needs torch, numpy, pillow and tokenizers. Several questions are answered as one batch: repeat
--image and --text, in the same order. A .pt2 file may hold pickled objects, which torch would
unpickle: a file that holds one is refused before torch sees it.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from profiling.partition.pipeline import Array, Part, main
from profiling.partition.saved_part import SavedPart

HERE = Path(__file__).resolve().parent
# What a file without pickled objects consists of: the program and its configuration as JSON, and
# weights as plain bytes.
_PLAIN = re.compile(
    r"models/\w+\.json|data/weights/(weight_\d+|\w+_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_config\.json)"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+"
)
_EMPTY = re.compile(r"data/sample_inputs/\w+\.pt")


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    if threads:
        torch.set_num_threads(threads)
    (program,) = told["programs"]
    path = folder / program["file"]
    refuse_pickles(path)
    module = torch.export.load(path).module()

    def compute(given: Sequence[Array]) -> Sequence[Any]:
        with torch.inference_mode():
            made = module(*map(torch.from_numpy, given))
        return made if isinstance(made, tuple | list) else (made,)

    return SavedPart(told, compute)


def refuse_pickles(path: Path) -> None:
    """End the script where a file holds something that torch would unpickle."""
    for name in find_pickles(path):
        sys.exit(f"{path} holds a pickled object, {name}, and is not loaded")


def find_pickles(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if _PLAIN.fullmatch(name):
                if name.endswith("_config.json"):
                    yield from _find_in_payloads(archive.read(entry))
            elif entry.file_size or not _EMPTY.fullmatch(name):
                yield name


def _find_in_payloads(stored: bytes) -> Iterator[str]:
    for name, told in json.loads(stored)["config"].items():
        is_plain = re.fullmatch(r"(weight|tensor)_\d+", told["path_name"])
        if told["use_pickle"] or not is_plain:
            yield name


if __name__ == "__main__":
    main(parts=HERE, folder=HERE, open_part=open_part, about=__doc__)
