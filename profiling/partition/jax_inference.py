"""Answers questions about pictures with parts in the format of jax.export (StableHLO).

    python jax_inference.py --image PICTURE --text "what is in the picture?"

It needs jax, flatbuffers (which jax.export reads its files with), numpy, pillow and tokenizers.
Programs have fixed shapes: questions are answered one by one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from profiling.partition.pipeline import Array, Part, main
from profiling.partition.saved_part import Compute, FixedPart

HERE = Path(__file__).resolve().parent


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    if threads:
        # Read once, when JAX first computes.
        os.environ["PJRT_NPROC"] = str(threads)
    import jax

    with numpy.load(folder / told["weights"], allow_pickle=False) as stored:
        weights = [jax.numpy.asarray(stored[f"arr_{place}"]) for place in range(len(stored.files))]
    programs = [_open(folder / one["file"], weights) for one in told["programs"]]
    return FixedPart(told, programs)


def _open(path: Path, weights: Sequence[Any]) -> Compute:
    import jax
    import jax.export

    function = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)

    def compute(given: Sequence[Array]) -> Sequence[Array]:
        made: Sequence[Array] = function(weights, *map(jax.numpy.asarray, given))
        return made

    return compute


if __name__ == "__main__":
    main(parts=HERE, folder=HERE, open_part=open_part, about=__doc__)
