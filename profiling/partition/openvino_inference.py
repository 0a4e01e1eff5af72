"""Answers questions about pictures with parts in OpenVINO's format.

    python openvino_inference.py --image PICTURE --text "what is in the picture?"

It needs openvino, numpy, pillow and tokenizers. Several questions are answered as one batch: repeat
--image and --text, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvino

from profiling.partition.pipeline import Array, Part, main
from profiling.partition.saved_part import SavedPart

HERE = Path(__file__).resolve().parent


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    (program,) = told["programs"]
    options = {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(str(folder / program["file"]), "CPU", options)
    request = compiled.create_infer_request()
    # A port has several names in no order: its node has the one in the file.
    places = [port.get_node().get_friendly_name() for port in compiled.inputs]
    names = [value["name"] for value in told["inputs"]]
    order = [names.index(name) for name in places]

    def compute(given: Sequence[Array]) -> Sequence[Array]:
        made = request.infer([given[place] for place in order], share_outputs=False)
        return [made[port] for port in compiled.outputs]

    return SavedPart(told, compute)


if __name__ == "__main__":
    main(parts=HERE, folder=HERE, open_part=open_part, about=__doc__)
