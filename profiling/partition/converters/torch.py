"""The format of torch.export (.pt2), without example inputs, which it would pickle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from profiling.graphs.export import dynamic_shapes
from profiling.models.tower import written_out_attention
from profiling.partition.converters.converter import Converter, Sizes, Source


class TorchFormat(Converter):
    """A part as an exported program of the same dynamic shapes."""

    needs = ("torch",)

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        path = folder / f"{part.name}.pt2"
        varying = [dict.fromkeys(part.axes[name], Dim.DYNAMIC) for name in part.example]
        shapes = dynamic_shapes(part.module, varying)
        with torch.no_grad(), written_out_attention(part.module):
            program = torch.export.export(
                part.module, tuple(part.example.values()), dynamic_shapes=shapes
            )
        program.example_inputs = None
        _forget_sources(program)
        torch.export.save(program, path)
        return {"programs": [{"file": path.name}]}


def _forget_sources(program: ExportedProgram) -> None:
    """Without the lines of this machine's files that each node comes from."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)


CONVERTER = TorchFormat()
