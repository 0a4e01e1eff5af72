"""The engine `functional`: the families' plain functions on NumPy, PyTorch or JAX.

Questions, pictures and the text of answers go through the family's own processing. Everything
between is functions of arrays: no module, no hook, none of the library's generate.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, Self

import numpy
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from profiling.costs.accounting import account, geometry_of
from profiling.costs.phase_costs import PhaseCosts
from profiling.costs.traffic import weight_sizes
from profiling.engines.engine import Engine, Footprint, Loading, Passes, Row
from profiling.engines.functional.forced_tokens import ForcedTokens
from profiling.engines.functional.plain import PlainFunctions
from profiling.engines.functional.settings import JAX, NUMPY, TORCH
from profiling.engines.rows import describe_rows
from profiling.engines.trace import Clock, HostClock, Trace
from profiling.engines.transformers.cuda_memory import cuda_memory, cuda_uuid
from profiling.engines.transformers.held_memory import CacheSize, cache_readings, read_weights
from profiling.engines.transformers.hooks import clock_for
from profiling.engines.transformers.optimizations.optimization import (
    Optimization,
    dtype_of,
    read_stack,
    require_package,
)
from profiling.engines.transformers.teacher import reference_ids
from profiling.errors import Unsupported
from profiling.machine.torch_device import is_out_of_memory
from profiling.models.family import placed
from profiling.models.functional_family import find_functions
from profiling.models.greedy import Rules, decode
from profiling.models.loading import LoadPlan, find_family, load_model
from profiling.models.model import Model, Prepared
from profiling.models.network_weights import converter, generation_settings, nested_weights_of
from profiling.models.weights import stored_format
from profiling.points.point import Point
from profiling.records import Reading
from profiling.samples.samples import Sample

_CLOCK = "perf_counter_ns around the batch and around the functions of each part"
# What JAX and NumPy say besides what torch says.
_NO_MEMORY = ("out of memory", "resource_exhausted", "unable to allocate")
_PLAIN = LoadPlan(dtype=None)
_REPLAYED = ("vision", "projector")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The processor's tensors on the host, and the pixels as the library's array."""

    tensors: Mapping[str, Tensor]
    pixels: Any = None

    def on_host(self) -> dict[str, numpy.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.tensors.items()}

    def sizes(self, functions: PlainFunctions) -> Hashable:
        return functions.sizes(self.tensors)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is told of the network that the weights came from, which is not kept."""

    weight_bytes: Mapping[str, int]
    model_bytes: int
    readings: Sequence[Reading]


class FunctionalEngine(Engine):
    """The functions of a family with the weights of a point."""

    def __init__(
        self,
        *,
        model: Model,
        functions: PlainFunctions,
        library: str,
        stored: Stored,
        rules: Rules,
    ) -> None:
        self.model, self.functions = model, functions
        self.library, self.stored, self.rules = library, stored, rules
        self._cache = CacheSize()
        # The calls of a pass by phase, while they are kept.
        self._calls: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] | None = None
        self._settled: set[Hashable] = set()

    @property
    def has_values(self) -> bool:  # type: ignore[override]
        return self.model.stored_values

    @property
    def blind(self) -> Mapping[str, str]:  # type: ignore[override]
        has_projector = self.functions.functions.project is not None
        return {} if has_projector else {"projector": "this family has no projector"}

    # Loading

    @classmethod
    def prepare_process(cls, point: Point) -> None:
        find_family(point.model)
        find_functions(point.model)
        if point.engine_settings["library"] == JAX:
            from profiling.runtimes.native.jax_process import prepare_process

            prepare_process(point.device, point.threads)

    @classmethod
    def check(cls, point: Point) -> None:
        library = point.engine_settings["library"]
        _check_stack(point)
        _refuse_quantized(stored_format(point))
        if library == JAX:
            require_package(JAX, "requirements-jax.txt")
        if library == NUMPY and dtype_of(point) == "bfloat16":
            raise Unsupported("NumPy has no bfloat16: choose another dtype or engine.library")
        if point.device != "cpu" and not _reaches(library, point.device):
            raise Unsupported(f"engine.library={library} does not compute on {point.device}")
        find_functions(point.model)

    @classmethod
    def check_samples(cls, point: Point, samples: Sequence[Sample]) -> None:
        find_family(point.model).check_shown(samples)
        if any(sample.clip for sample in samples):
            raise Unsupported("engine=functional: its functions know pictures and no clips")

    @classmethod
    def load(cls, point: Point) -> Self:
        torch.set_num_threads(point.threads)
        threadpool_limits(limits=point.threads, user_api="blas")
        functions = find_functions(point.model)
        plan = _PLAIN
        for optimization in read_stack(point.optimization_settings):
            plan = optimization.plan(plan)
        model = load_model(point, plan)
        _refuse_quantized(model.quantized)
        config = model.family.config.to_dict()
        functions.check(config)
        rules = Rules.of(generation_settings(model.family, model.network))
        library = point.engine_settings["library"]
        stored = Stored(
            weight_bytes=weight_sizes(model.network),
            model_bytes=model.parameter_bytes(),
            readings=list(read_weights(model.network, model.parts())),
        )
        given = {
            "functions": functions,
            "weights": nested_weights_of(model.network, library),
            "config": config,
            "convert": converter(library),
        }
        # The functions have the weights; of the network only its settings are needed any more.
        settings = SimpleNamespace(generation_config=model.network.generation_config)
        made = _compiled(point, given) if library == JAX else PlainFunctions(**given)
        return cls(
            model=replace(model, network=settings),
            functions=made,
            library=library,
            stored=stored,
            rules=rules,
        )

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        refused = any(words in str(error).lower() for words in _NO_MEMORY)
        return refused or is_out_of_memory(error)

    # From samples to answers

    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> list[Prepared]:
        return [self.model.prepare(sample, prompt_len) for sample in samples]

    def encode(self, batch: Sequence[Prepared], img_size: int | None) -> Inputs:
        return Inputs(tensors=self.model.encode(batch, img_size))

    def place(self, inputs: Inputs) -> Inputs:
        device = self.model.device if self.library == TORCH else torch.device("cpu")
        pixels = {"pixel_values": inputs.tensors["pixel_values"]}
        moved = placed(pixels, device, self.model.dtype)["pixel_values"]
        return replace(inputs, pixels=self.functions.convert(moved))

    @torch.inference_mode()
    def generate(
        self, inputs: Inputs, *, length: int, exact: bool, trace: Trace | None
    ) -> numpy.ndarray:
        prompt = inputs.tensors["input_ids"].shape[1]
        self.model.check_length(prompt, length if exact else 1)
        planned = self._plan(inputs)
        logits, state = self._prefill(inputs, planned, length, trace)
        return decode(
            logits,
            state,
            self.functions.step,
            length=length,
            rules=self.rules,
            exact=exact,
            history=planned["history"],
            choose=self.functions.choose,
            mark=None if trace is None else trace.tokens,
        )

    def _plan(self, inputs: Inputs) -> dict[str, numpy.ndarray]:
        return self.functions.plan(inputs.on_host(), self.rules.padding)

    def _prefill(
        self,
        inputs: Inputs,
        planned: Mapping[str, numpy.ndarray],
        length: int,
        trace: Trace | None,
    ) -> tuple[Any, dict[str, Any]]:
        """The logits of the first new token, and the state that decoding goes on from."""
        functions, run = self.functions, partial(self._run, trace)
        pictures = run("vision", functions.vision, inputs.pixels, inputs.sizes(functions))
        if functions.functions.project is not None:
            pictures = run("projector", functions.project, pictures)
        room = functions.room(planned, length)
        logits, state = run("prefill", functions.prefill, planned, pictures, room)
        self._cache = _cache_size(state)
        return logits, state

    def _run(
        self, trace: Trace | None, phase: str, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Call a function and, where it is timed, wait until it has computed."""
        if self._calls is not None:
            self._calls.append((phase, function, arguments))
        if trace is None:
            return function(*arguments)
        with trace.span(phase):
            computed = function(*arguments)
            self.functions.wait(computed)
        return computed

    def describe(
        self, batch: Sequence[Prepared], inputs: Inputs, generated: numpy.ndarray | None
    ) -> list[Row]:
        tokens = None if generated is None else torch.from_numpy(generated)
        return describe_rows(self.model, batch, inputs.tensors, tokens, processed=inputs.tensors)

    def tokens(self, generated: numpy.ndarray) -> list[list[int]]:
        counts = self.model.count_new_tokens(torch.from_numpy(generated))
        rows: list[list[int]] = generated.tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    @torch.inference_mode()
    def reference_nlls(
        self, inputs: Inputs, references: Sequence[str], length: int
    ) -> list[float | None]:
        forced = ForcedTokens([reference_ids(self.model, each) for each in references])
        self._force(forced, inputs, length)
        return forced.means()

    @torch.inference_mode()
    def forced_logits(
        self, inputs: Inputs, tokens: Sequence[Sequence[int]], length: int
    ) -> list[numpy.ndarray]:
        forced = ForcedTokens(tokens, keep=True)
        self._force(forced, inputs, length)
        return forced.logits()

    def precisions(self) -> frozenset[str]:
        return frozenset({str(self.model.dtype).removeprefix("torch.")})

    def _force(self, forced: ForcedTokens, inputs: Inputs, length: int) -> None:
        # A cache that was laid out for the answers serves here too.
        planned, room = self._plan(inputs), max(length, forced.longest)
        logits, state = self._prefill(inputs, planned, room, None)
        decode(
            logits,
            state,
            self.functions.step,
            length=forced.longest,
            rules=Rules(ends=(), padding=self.rules.padding),
            choose=forced.choose,
        )

    def replay(self, part: str, run: Callable[[], None]) -> Callable[[], None]:
        if part not in _REPLAYED or part in self.blind:
            raise Unsupported(self.blind.get(part, f"this engine cannot run its {part} part alone"))
        self._calls = []
        try:
            run()
            calls = [call for call in self._calls if call[0] == part]
        finally:
            self._calls = None

        @torch.inference_mode()
        def repeat() -> None:
            for _, function, arguments in calls:
                self.functions.wait(function(*arguments))
            self.synchronize()

        return repeat

    # What probes ask

    def clock(self) -> Clock:
        device = self.model.device
        return clock_for(device) if self._on_cuda() else HostClock(_CLOCK)

    def _on_cuda(self) -> bool:
        """Whether torch's stream is where the work is."""
        return self.library == TORCH and self.model.device.type == "cuda"

    def footprint(self) -> Footprint:
        device, dtype = self.model.device, str(self.model.dtype).removeprefix("torch.")
        return Footprint(
            pids=(os.getpid(),),
            device=str(device),
            gpu_uuid=cuda_uuid(device),
            dtype=dtype,
            computes_in=dtype,
            model_bytes=self.stored.model_bytes,
            accelerator=cuda_memory(device) if self._on_cuda() else None,
        )

    def costs(self, inputs: Inputs, *, length: int, cross_check: bool) -> PhaseCosts:
        return account(
            self.model.family,
            geometry_of(self.model.family, inputs.tensors, length),
            weight_bytes=self.stored.weight_bytes,
            cache_element_bytes=self.model.dtype.itemsize,
            cross_check=cross_check,
            as_computed=True,
        )

    def settle(self, workload: Passes) -> None:
        """Have every shape of the workload compiled before anything is measured."""
        functions = self.functions
        if functions.compiles:
            functions.lay_out(workload.max_new_tokens)
            for index in range(len(workload.batches)):
                shape = self._shape(workload.encode(index))
                if shape not in self._settled:
                    workload.run(index)
                    self._settled.add(shape)
            functions.begin_measuring()

    def _shape(self, inputs: Inputs) -> Hashable:
        """What the compiled code for a batch depends on."""
        planned = self._plan(inputs)
        pixels, sizes = inputs.tensors["pixel_values"].shape, inputs.sizes(self.functions)
        return planned["ids"].shape, tuple(pixels), sizes, self.functions.room(planned, 1)

    def memory_readings(self, workload: Passes) -> Iterator[Reading]:
        workload.run(0)
        yield from cache_readings(self._cache)
        yield from self.stored.readings

    def readings(self, workload: Passes, loading: Loading) -> Iterator[Reading]:
        return self.functions.readings()

    def synchronize(self) -> None:
        self.model.synchronize()


def _refuse_quantized(stored: object) -> None:
    if stored is not None:
        raise Unsupported("plain functions take weights that are not quantized")


def _check_stack(point: Point) -> None:
    """Refuse optimizations that change more than the dtype: there are no modules to change."""
    for name, optimization in zip(
        point.optimization, read_stack(point.optimization_settings), strict=True
    ):
        optimization.check(point)
        planned = replace(optimization.plan(_PLAIN), dtype=None)
        if planned != _PLAIN or type(optimization).apply is not Optimization.apply:
            raise Unsupported(
                f"optimization={name} changes the library's network, and plain functions have none"
            )


def _reaches(library: str, device: str) -> bool:
    if library != JAX:
        return library == TORCH
    from profiling.runtimes.native.jax_process import reaches

    return reaches(device)


def _compiled(point: Point, given: Mapping[str, Any]) -> PlainFunctions:
    from profiling.engines.functional.compiled import CompiledFunctions

    return CompiledFunctions(length_multiple=point.engine_settings["length_multiple"], **given)


def _cache_size(state: Mapping[str, Any]) -> CacheSize:
    """The keys and values that decoding begins with, which have room for all that come."""
    growing, fixed = ([*chain(*state.get(name, ()))] for name in ("caches", "cross"))
    rows, _, room, _ = growing[0].shape
    return CacheSize(
        growing_bytes=Counter({room: sum(array.nbytes for array in growing)}),
        fixed_bytes=sum(array.nbytes for array in fixed),
        sequences=rows,
    )


ENGINE = FunctionalEngine
