"""OpenVINO: graphs compiled for a processor, in single precision or as its hint says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import openvino

from profiling.runtimes.runtime import Arrays, Program, Runtime, RuntimeAbsent, require_cpu

_ON_THE_CPU = "CPU"
# The hints by the names that dtypes have elsewhere.
_HINTS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
# What the processor has to offer for a hint to change anything.
_CAPABILITIES = {"bfloat16": "BF16"}


class CompiledProgram(Program):
    """A graph that was compiled; one request runs it, one call after another."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        # A port has several names in no order: its node has the one in the file.
        self.inputs = [port.get_node().get_friendly_name() for port in compiled.inputs]
        self.outputs = [port.get_any_name() for port in compiled.outputs]
        named = list(zip(self.inputs, compiled.inputs, strict=True))
        self.dtypes = {n: numpy.dtype(port.get_element_type().to_dtype()).name for n, port in named}
        self.ranks = {name: port.get_partial_shape().rank.get_length() for name, port in named}
        self._places = list(compiled.outputs)
        self._request = compiled.create_infer_request()

    def run(self, feeds: Arrays) -> list[Any]:
        given = [feeds[name] for name in self.inputs]
        # The request writes into the same memory at the next call, so outputs are copied.
        made = self._request.infer(given, share_inputs=True, share_outputs=False)
        return [made[place] for place in self._places]


class OpenVino(Runtime):
    """OpenVINO on the processor."""

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("openvino", device)
        needed = _CAPABILITIES.get(settings["compute"])
        offered = openvino.Core().get_property(_ON_THE_CPU, "OPTIMIZATION_CAPABILITIES")
        if needed is not None and needed not in offered:
            raise RuntimeAbsent(
                f"this processor computes no {settings['compute']} in openvino: it offers"
                f" {', '.join(sorted(offered))}"
            )

    def open(self, path: Path) -> CompiledProgram:
        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": _HINTS[self.settings["compute"]],
            "PERFORMANCE_HINT": "LATENCY",
        }
        return CompiledProgram(core.compile_model(str(path), _ON_THE_CPU, options))

    def computes_in(self, stored: str) -> str:
        return "int8" if stored == "int8" else str(self.settings["compute"])


RUNTIME = OpenVino
