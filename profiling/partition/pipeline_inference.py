"""Answers questions about pictures with exported parts: onnxruntime, numpy, pillow and tokenizers.

    python pipeline_inference.py --image PICTURE --text "what is in the picture?"

Several questions are answered as one batch: repeat --image and --text, in the same order. A
question about several pictures takes them as `--image ONE TWO`, for models whose prompt has a place
for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiling.partition.pipeline import Array, Part, main

# It reads this when it is imported, and otherwise keeps a database in the user's cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

HERE = Path(__file__).resolve().parent


class SessionPart:
    """A graph in a session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = {value.name: value.shape for value in session.get_inputs()}
        self.outputs = [value.name for value in session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        made: list[Array] = self.session.run(None, dict(feeds))
        return made


def open_part(folder: Path, told: Mapping[str, Any], threads: int) -> Part:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = str(folder / told["file"])
    return SessionPart(onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]))


if __name__ == "__main__":
    main(parts=HERE.parents[1] / "parts", folder=HERE, open_part=open_part, about=__doc__)
