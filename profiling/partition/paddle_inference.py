"""Answers questions about pictures with parts as Paddle's inference models.

    python paddle_inference.py --image PICTURE --text "what is in the picture?"

It needs paddlepaddle, numpy, pillow and tokenizers. Programs have fixed shapes: questions are
answered one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling.partition.pipeline import Array, Part, main
from profiling.partition.saved_part import Compute, FixedPart

with warnings.catch_warnings():
    # What nothing here compiles needs no cache of compiled files.
    warnings.filterwarnings("ignore", "No ccache found")
    from paddle import inference

HERE = Path(__file__).resolve().parent


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    programs = [_open(folder, one, threads) for one in told["programs"]]
    return FixedPart(told, programs)


def _open(folder: Path, program: Mapping[str, Any], threads: int) -> Compute:
    config = inference.Config(str(folder / program["file"]), str(folder / program["weights"]))
    config.disable_gpu()
    config.disable_glog_info()
    # With oneDNN some graphs end in a segmentation fault.
    config.disable_mkldnn()
    if threads:
        config.set_cpu_math_library_num_threads(threads)
    for name in program["left_out"]:
        config.delete_pass(name)
    predictor = inference.create_predictor(config)
    handles = {place: predictor.get_input_handle(name) for place, name in program["read"]}
    outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def compute(given: Sequence[Array]) -> Sequence[Array]:
        for place, handle in handles.items():
            handle.copy_from_cpu(given[place])
        predictor.run()
        return [output.copy_to_cpu() for output in outputs]

    return compute


if __name__ == "__main__":
    main(parts=HERE, folder=HERE, open_part=open_part, about=__doc__)
