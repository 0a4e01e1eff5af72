"""MindSpore's MindIR: a graph with its weights, for each shape."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mindspore

from profiling.partition.cell_source import write_cell
from profiling.partition.converters.converter import Converter, Sizes, Source
from profiling.partition.fixed_sizes import zeros_of
from profiling.runtimes.mindspore import RUNTIME


class MindSporeFormat(Converter):
    """A MindIR file for each shape, which holds weights of its own."""

    fixed = True
    needs = ("mindspore",)

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        RUNTIME.prepare_process(device="cpu", threads=1)
        programs = []
        for number, one in enumerate(sizes, start=1):
            stem = folder / f"{part.name}.{number}"
            given = [zeros_of(value, one) for value in part.told["inputs"]]
            # A file has no input of no length, such as an empty cache.
            read = [place for place, value in enumerate(given) if value.size]
            placed = [mindspore.Tensor(given[place]) for place in read]
            with TemporaryDirectory(prefix="mindspore-") as elsewhere:
                cell = write_cell(part.graph, given, read, Path(elsewhere))
                mindspore.export(cell, *placed, file_name=str(stem), file_format="MINDIR")
                del sys.modules[type(cell).__module__]
            programs.append({"file": f"{stem.name}.mindir", "sizes": dict(one), "read": read})
        return {"programs": programs}


CONVERTER = MindSporeFormat()
