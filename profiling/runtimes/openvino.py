"""OpenVINO: graphs compiled for a processor, in single precision or as its hint says."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import openvino

from profiling.runtimes.offered import OWN_FORMATS, STATEFUL
from profiling.runtimes.runtime import Arrays, Program, Runtime, RuntimeAbsent, require_cpu
from profiling.runtimes.stateful_graph import PAST, make_stateful, present_of

_ON_THE_CPU = "CPU"
# The hints by the names that dtypes have elsewhere.
_HINTS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
# What the processor has to offer for a hint to change anything.
_CAPABILITIES = {"bfloat16": "BF16"}
# Weights that share a scale in 4 bits.
_GROUP = 32


class CompiledProgram(Program):
    """A graph that was compiled; one request runs it, one call after another."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        # A port has several names in no order: its node has the one in the file.
        self.inputs = [port.get_node().get_friendly_name() for port in compiled.inputs]
        self.outputs = [port.get_any_name() for port in compiled.outputs]
        named = list(zip(self.inputs, compiled.inputs, strict=True))
        self.dtypes = {n: numpy.dtype(port.get_element_type().to_dtype()).name for n, port in named}
        self.ranks = {name: port.get_partial_shape().rank.get_length() for name, port in named}
        self._order = list(self.inputs)
        self._places = list(compiled.outputs)
        self._request = compiled.create_infer_request()

    def run(self, feeds: Arrays) -> list[Any]:
        given = [feeds[name] for name in self._order]
        # The request writes into the same memory at the next call, so outputs are copied.
        made = self._request.infer(given, share_inputs=True, share_outputs=False)
        return [made[place] for place in self._places]


class Held:
    """One of the keys or values that a request holds after a step; the next step supersedes it."""

    def __init__(self, program: StatefulProgram, name: str, step: int) -> None:
        self.program, self.name, self.step = program, name, step

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return numpy.array(self.program.read(self), dtype)


class StatefulProgram(CompiledProgram):
    """A decoder whose keys and values stay in its request from step to step.

    Its inputs and outputs are those of the graph, but what a step returns stands for the state
    behind it, and is taken back by the next step. Arrays that are given instead become the state.
    """

    def __init__(self, compiled: openvino.CompiledModel, past: Sequence[str]) -> None:
        super().__init__(compiled)
        self._past = past
        self._step = 0
        self.inputs = [*self.inputs, *past]
        self.outputs = [*self.outputs, *map(present_of, past)]
        self.dtypes = {**self.dtypes, **dict.fromkeys(past, "float32")}
        self.ranks = {**self.ranks, **dict.fromkeys(past, 4)}
        # A state is named after both the input and the output that it replaced.
        states = {state.name: state for state in self._request.query_state()}
        self._states = {name: states[name + present_of(name)] for name in past}

    def run(self, feeds: Arrays) -> list[Any]:
        logits, *held = self.run_held(feeds, room=None)
        return [logits, *map(numpy.asarray, held)]

    def run_held(self, feeds: Mapping[str, Any], *, room: int | None) -> list[Any]:
        self._place([feeds[name] for name in self._past])
        made = super().run(feeds)
        self._step += 1
        return [*made, *(Held(self, name, self._step) for name in self._past)]

    def _place(self, given: Sequence[Any]) -> None:
        """Have the request hold these keys and values."""
        held = [value for value in given if isinstance(value, Held)]
        if len(held) == len(given):
            for value in held:
                self._require_current(value)
            return
        self._request.reset_state()
        if numpy.shape(given[0])[2]:
            for name, value in zip(self._past, given, strict=True):
                array = numpy.ascontiguousarray(value, numpy.float32)
                self._states[name].state = openvino.Tensor(array)

    def read(self, held: Held) -> Any:
        self._require_current(held)
        return self._states[held.name].state.data

    def _require_current(self, held: Held) -> None:
        if held.program is not self or held.step != self._step:
            raise RuntimeError(
                "keys and values of an earlier step were asked for, and with engine.cache=stateful"
                " openvino holds those of the last one alone"
            )


class OpenVino(Runtime):
    """OpenVINO on the processor."""

    suffix = ".xml"
    stores_with = ("openvino", "nncf")

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        require_cpu("openvino", device)
        if settings.get("precision") in OWN_FORMATS["openvino"] and find_spec("nncf") is None:
            raise RuntimeAbsent("nncf is not installed: pip install -r requirements-nncf.txt")
        needed = _CAPABILITIES.get(settings["compute"])
        offered = openvino.Core().get_property(_ON_THE_CPU, "OPTIMIZATION_CAPABILITIES")
        if needed is not None and needed not in offered:
            raise RuntimeAbsent(
                f"this processor computes no {settings['compute']} in openvino: it offers"
                f" {', '.join(sorted(offered))}"
            )

    def open(self, path: Path) -> CompiledProgram:
        core, hint = openvino.Core(), _HINTS[self.settings["compute"]]
        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            # By default it quantizes what is multiplied by quantized weights, and its own cache.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "KV_CACHE_PRECISION": hint,
        }
        graph = core.read_model(str(path))
        past = [name for name in map(_name_of, graph.inputs) if name.startswith(PAST)]
        if past and self.settings.get("cache") == STATEFUL:
            make_stateful(graph, past)
            return StatefulProgram(core.compile_model(graph, _ON_THE_CPU, options), past)
        return CompiledProgram(core.compile_model(graph, _ON_THE_CPU, options))

    def store(self, path: Path, folder: Path, *, precision: str) -> Path:
        """Weights by NNCF: of every product in 8 bits; in 4 bits but for the last product."""
        import nncf

        nncf.set_log_level(logging.ERROR)
        modes = nncf.CompressWeightsMode
        fallback = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.IGNORE
        )
        chosen: dict[str, Any] = {
            "int8": {"mode": modes.INT8_ASYM},
            "int4": {
                "mode": modes.INT4_ASYM,
                "group_size": _GROUP,
                "ratio": 1.0,
                "advanced_parameters": fallback,
            },
        }[precision]
        graph = nncf.compress_weights(openvino.Core().read_model(str(path)), **chosen)
        target = folder / f"{path.stem}.xml"
        openvino.save_model(graph, str(target), compress_to_fp16=False)
        return target

    def computes_in(self, stored: str) -> str:
        # Weights are converted where they are multiplied.
        return str(self.settings["compute"])


def _name_of(port: Any) -> str:
    return str(port.get_node().get_friendly_name())


RUNTIME = OpenVino
