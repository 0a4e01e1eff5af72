"""Paddle's inference models: a program as JSON and its weights, for each shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle

from profiling.partition.converters.converter import Converter, Sizes, Source
from profiling.partition.fixed_sizes import zeros_of
from profiling.runtimes.native.native_graph import NativeGraph
from profiling.runtimes.native.paddle_adapter import PaddleAdapter
from profiling.runtimes.paddle import WRONG_PASS, save_program


class PaddleFormat(Converter):
    """An inference model for each shape, which holds weights of its own."""

    fixed = True
    needs = ("paddlepaddle",)

    def save(self, part: Source, folder: Path, sizes: Sequence[Sizes]) -> dict[str, Any]:
        paddle.set_device("cpu")
        graph = NativeGraph(part.graph, PaddleAdapter())
        programs = []
        for number, one in enumerate(sizes, start=1):
            stem = f"{part.name}.{number}"
            given = [zeros_of(value, one) for value in part.told["inputs"]]
            read = save_program(graph, graph.run, given, folder / stem)
            programs.append(
                {
                    "file": f"{stem}.json",
                    "weights": f"{stem}.pdiparams",
                    "sizes": dict(one),
                    "read": [[place, graph.inputs[place]] for place in read],
                    "left_out": [WRONG_PASS],
                }
            )
        return {"programs": programs}


CONVERTER = PaddleFormat()
