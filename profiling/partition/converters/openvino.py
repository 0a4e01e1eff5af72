"""OpenVINO's intermediate representation: the graph as XML, the weights beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino

from profiling.partition.converters.converter import Converter, Sizes, Source


class OpenVinoFormat(Converter):
    """A graph in OpenVINO's format, of the same dynamic shapes and in the same precision."""

    needs = ("openvino",)

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        path = folder / f"{part.name}.xml"
        graph = openvino.Core().read_model(str(part.graph))
        openvino.save_model(graph, str(path), compress_to_fp16=False)
        return {"programs": [{"file": path.name}]}


CONVERTER = OpenVinoFormat()
