"""Answers questions about pictures with parts in MindSpore's format (MindIR).

    python mindspore_inference.py --image PICTURE --text "what is in the picture?"

It needs mindspore, numpy, pillow and tokenizers. Programs have fixed shapes: questions are answered
one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import mindspore
import numpy

from profiling.partition.pipeline import Array, Part, main
from profiling.partition.saved_part import Compute, FixedPart

HERE = Path(__file__).resolve().parent


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    mindspore.set_device("CPU")
    if threads:
        mindspore.set_context(runtime_num_threads=threads)
    # The first operator fails once under NumPy 2.
    with suppress(SystemError), redirect_stderr(StringIO()):
        mindspore.Tensor(numpy.ones((1, 2), numpy.float32)).reshape(2, 1)
    return FixedPart(told, [_open(folder, one) for one in told["programs"]])


def _open(folder: Path, program: Mapping[str, Any]) -> Compute:
    cell = mindspore.nn.GraphCell(mindspore.load(str(folder / program["file"])))

    def compute(given: Sequence[Array]) -> Sequence[Array]:
        made = cell(*(mindspore.Tensor(given[place]) for place in program["read"]))
        return [one.asnumpy() for one in (made if isinstance(made, tuple) else (made,))]

    return compute


if __name__ == "__main__":
    main(parts=HERE, folder=HERE, open_part=open_part, about=__doc__)
