"""The engine `torch`: the library's network and its own `generate`, changed by optimizations."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy
import torch
from torch import Tensor

from profiling.costs.accounting import account, count_tokens, geometry_of
from profiling.costs.phase_costs import PhaseCosts
from profiling.costs.traffic import weight_sizes
from profiling.engines.engine import Engine, Footprint, Loading, Passes, Row
from profiling.engines.operators import OperatorTrace
from profiling.engines.rows import describe_rows
from profiling.engines.trace import Clock, Trace
from profiling.engines.transformers.cuda_memory import cuda_memory, cuda_uuid
from profiling.engines.transformers.disturbing import disturbed, longest_sum
from profiling.engines.transformers.finiteness import FirstLogits, NonFinite, find_layer
from profiling.engines.transformers.held_memory import read_cache, read_weights
from profiling.engines.transformers.hooks import PhaseHooks, clock_for, token_marks
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.memory_errors import is_out_of_memory
from profiling.engines.transformers.metal_memory import metal_memory
from profiling.engines.transformers.operator_trace import trace_operators
from profiling.engines.transformers.optimizations.fp32 import Fp32
from profiling.engines.transformers.optimizations.optimization import (
    Optimization,
    build,
    check_anywhere,
    check_shown,
    read_stack,
    why_not_dense,
)
from profiling.engines.transformers.point_costs import (
    AS_PROCESSED,
    PointCosts,
    count_point,
)
from profiling.engines.transformers.running_costs import count_running
from profiling.engines.transformers.teacher import by_row, reference_nlls, teach
from profiling.errors import Unsupported
from profiling.machine.machine import why_no_joules
from profiling.machine.torch_device import why_unusable
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.loading import find_family, load_family
from profiling.models.model import Model, Prepared
from profiling.models.quantization import computes_in, layers_compute_in, read_bits
from profiling.models.weights import locate
from profiling.points.point import Point
from profiling.records import DERIVED, MEASURED, Reading, reading, unavailable
from profiling.samples.samples import Sample

_UNKNOWN_PEAK = "made by an earlier run, which left no peak"


class Inputs(dict[str, Tensor]):
    """What generate gets, by name, and the side of the pictures that was asked for.

    `processed` are the processor's tensors, where an optimization gave others.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        side: int | None,
        processed: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(tensors)
        self.side = side
        self.processed = tensors if processed is None else processed


def stack_of(point: Point) -> list[Optimization]:
    """The optimizations of a point; a runtime that runs parts comes first."""
    stack = list(read_stack(point.optimization_settings))
    if not graph_parts_of(point):
        return stack
    # It imports what makes graphs, which a point without a runtime has no use for.
    from profiling.engines.transformers.runtime_parts import RuntimeParts

    return [RuntimeParts(point), *stack]


def graph_parts_of(point: Point) -> bool:
    return "runtime" in point.engine_settings


def check_stack(point: Point) -> list[Optimization]:
    """The stack, or Unsupported where this machine, family or combination cannot have it."""
    stack = stack_of(point)
    _check_whole(point, stack)
    if graph_parts_of(point):
        _check_dense(point)
        runtime: Any = stack[0]
        for name, optimization in zip(point.optimization, stack[1:], strict=True):
            runtime.check_beside(name, optimization)
    # A runtime's own entry comes first.
    check_anywhere(point, stack[-len(point.optimization) :])
    for optimization in stack:
        optimization.check(point)
    return stack


def _check_whole(point: Point, stack: Sequence[Optimization]) -> None:
    """Some networks can only be run whole, as they are."""
    reason = find_family(point.model).layout.whole_network
    if reason is None:
        return
    if graph_parts_of(point):
        raise Unsupported(f"engine={point.engine}: {reason}")
    # A runtime's own entry comes first, and there is none here.
    for name, optimization in zip(point.optimization, stack, strict=True):
        if optimization.replaces_parts:
            raise Unsupported(f"optimization={name}: {reason}")


def _check_dense(point: Point) -> None:
    """A runtime's graphs are exported from weights that are not quantized."""
    reason = why_not_dense(point)
    if reason is not None:
        raise Unsupported(f"engine={point.engine}: {reason}")


class TransformersEngine(Engine):
    """A loaded model with its stack of optimizations."""

    def __init__(self, *, loaded: LoadedModel, stack: Sequence[Optimization]) -> None:
        self.loaded = loaded
        self.stack = stack
        self._hooks: PhaseHooks | None = None
        self._gave_numbers = False
        # Costs by the shape of a batch, where they are counted on the running network.
        self._counted: dict[Hashable, PhaseCosts] = {}

    # The model

    @property
    def model(self) -> Model:
        return self.loaded.model

    @property
    def network(self) -> Any:
        return self.model.network

    @property
    def family(self) -> Family:
        return self.model.family

    @property
    def has_values(self) -> bool:  # type: ignore[override]
        return self.model.stored_values

    @property
    def is_plain(self) -> bool:  # type: ignore[override]
        is_kept = all(optimization.is_plain for optimization in self.stack)
        return is_kept and self.precisions() == {"float32"}

    @property
    def approximates(self) -> str | None:  # type: ignore[override]
        return next(filter(None, (one.approximates for one in self.stack)), None)

    @property
    def blind(self) -> Mapping[str, str]:  # type: ignore[override]
        """Parts that this family has not, or that another part's module does the work of."""
        parts = self.loaded.parts()
        return {
            name: self.loaded.absorbed.get(name, f"this family has no {name}")
            for name in ("vision", "projector")
            if not parts[name]
        }

    # Loading

    @classmethod
    def prepare_process(cls, point: Point) -> None:
        find_family(point.model)
        for optimization in stack_of(point):
            optimization.import_libraries()

    @classmethod
    def check(cls, point: Point) -> None:
        unusable = why_unusable(point.device)
        if unusable is not None:
            raise Unsupported(f"device={point.device}: {unusable}")
        check_stack(point)

    @classmethod
    def check_samples(cls, point: Point, samples: Sequence[Sample]) -> None:
        check_shown(point, samples)

    @classmethod
    def predict_bytes(cls, point: Point) -> int | None:
        if find_family(point.model).costs.counted_running is not None:
            return None
        return cls.count(point).dense_bytes

    @classmethod
    def count(cls, point: Point) -> PointCosts:
        return count_point(point, lengths=AS_PROCESSED)

    @classmethod
    def load(cls, point: Point) -> Self:
        torch.set_num_threads(point.threads)
        torch.manual_seed(point.seed)
        # Also where each notes what planning and applying need of the point.
        stack = check_stack(point)
        return cls(loaded=build(point, stack), stack=stack)

    @classmethod
    def load_plain(cls, point: Point, *, most_bytes: float | None) -> Self:
        stack = [Fp32(kind="dtype", order=0)]
        needed = _single_precision_bytes(point)
        if most_bytes is not None and needed > most_bytes:
            raise Unsupported(
                f"the plain model in float32 has {needed / 1e9:.1f} GB, more than the"
                f" {most_bytes / 1e9:.1f} GB that may be loaded for the comparison"
            )
        return cls(loaded=build(point, stack), stack=stack)

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        return is_out_of_memory(error)

    # From samples to answers

    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> list[Prepared]:
        return [self.model.prepare(sample, prompt_len) for sample in samples]

    def encode(self, batch: Sequence[Prepared], img_size: int | None) -> Inputs:
        for optimization in self.stack:
            known = optimization.recall(self.family, batch, img_size)
            if known is not None:
                return Inputs(known.given, side=img_size, processed=known.processed)
        processed = given = self.model.encode(batch, img_size)
        for optimization in self.stack:
            given = optimization.encode(self.family, batch, img_size, given)
        return Inputs(given, side=img_size, processed=processed)

    def place(self, inputs: Inputs) -> Inputs:
        return Inputs(self.model.place(inputs), side=inputs.side)

    def generate(self, inputs: Inputs, *, length: int, exact: bool, trace: Trace | None) -> Tensor:
        run = partial(
            self.model.generate,
            inputs,
            side=inputs.side,
            length=length,
            exact=exact,
            **self.loaded.generate_options,
            **self.loaded.drafting,
        )
        if trace is None:
            self.remove_hooks()
            return self._generate_untimed(run)
        hooks = self.place_hooks()
        hooks.follow(trace)
        tokens = run(stopping_criteria=token_marks(trace))
        hooks.follow(None)
        hooks.check(trace)
        return tokens

    def _generate_untimed(self, run: Callable[..., Tensor]) -> Tensor:
        """The first generation of a network with values also checks that it gives numbers."""
        if self._gave_numbers or not self.has_values:
            return run()
        logits = FirstLogits()
        tokens = run(logits_processor=[logits])
        if not logits.are_finite:
            layer = find_layer(self.network, run)
            raise NonFinite(f"the logits of the first pass are not finite; first in {layer}")
        self._gave_numbers = True
        return tokens

    def place_hooks(self) -> PhaseHooks:
        """The hooks of timed generations, put on the network where they are not there yet."""
        self._hooks = self._hooks or PhaseHooks(self.loaded.parts())
        return self._hooks

    def remove_hooks(self) -> None:
        """Take the hooks of timed generations off the network."""
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None

    def describe(
        self, batch: Sequence[Prepared], inputs: Inputs, generated: Tensor | None
    ) -> list[Row]:
        tokens = None if generated is None else generated.cpu()
        return describe_rows(self.model, batch, inputs, tokens, processed=inputs.processed)

    def tokens(self, generated: Tensor) -> list[list[int]]:
        counts = self.model.count_new_tokens(generated)
        rows = generated.tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def reference_nlls(
        self, inputs: Inputs, references: Sequence[str], length: int
    ) -> list[float | None]:
        with ExitStack() as around:
            for optimization in self.stack:
                around.enter_context(optimization.uncounted())
            return reference_nlls(
                self.model,
                inputs,
                references,
                side=inputs.side,
                length=length,
                **self.loaded.generate_options,
            )

    def forced_logits(
        self, inputs: Inputs, tokens: Sequence[Sequence[int]], length: int
    ) -> list[numpy.ndarray]:
        if self.loaded.drafting:
            raise Unsupported("tokens are drafted, and a loop that drafts cannot be forced")
        self.remove_hooks()
        with ExitStack() as around:
            for optimization in self.stack:
                around.enter_context(optimization.uncounted())
            steps = teach(
                self.model,
                inputs,
                tokens,
                side=inputs.side,
                length=length,
                **self.loaded.generate_options,
            )
        return by_row(steps, tokens)

    def precisions(self) -> frozenset[str]:
        model, quantized = self.model, self.model.quantized
        found = {str(model.dtype).removeprefix("torch."), *self.loaded.stored_in}
        if self.loaded.computes_in is not None:
            found.add(self.loaded.computes_in)
        if quantized is not None:
            found.add(layers_compute_in(quantized.quantization, model.dtype, model.device))
            # The plain model of a quantized checkpoint has its quantized values, too.
            if quantized.made_s is not None:
                found.add(f"int{quantized.quantization.bits}")
        return frozenset(found)

    def disturbed(self, size: float) -> AbstractContextManager[None]:
        self.remove_hooks()
        return disturbed(self.network, size)

    def longest_sum(self) -> int:
        return longest_sum(self.network)

    def replay(self, part: str, run: Callable[[], None]) -> Callable[[], None]:
        modules = self.loaded.parts()[part]
        if not modules:
            raise Unsupported(self.blind.get(part, f"this family has no {part}"))
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def keep(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append((args, kwargs))

        handle = modules[0].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            run()
        finally:
            handle.remove()
        if not calls:
            raise Unsupported(f"the {part} part was not called by a pass")

        @torch.inference_mode()
        def repeat() -> None:
            for args, kwargs in calls:
                modules[0](*args, **kwargs)
            self.synchronize()

        return repeat

    def trace_operators(self, run: Callable[[], None]) -> OperatorTrace:
        cache = self.loaded.fixed_cache
        if cache is not None and cache.compilation is not None:
            raise Unsupported("compiled steps have no modules that operators could be traced to")
        self.remove_hooks()
        return trace_operators(self.network, self.loaded.parts(), self.model.device, run)

    # What probes ask

    def clock(self) -> Clock:
        return clock_for(self.model.device)

    def footprint(self) -> Footprint:
        device = self.model.device
        return Footprint(
            pids=(os.getpid(),),
            device=str(device),
            gpu_uuid=cuda_uuid(device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            computes_in=self._computes_in(),
            model_bytes=self.model.parameter_bytes(),
            accelerator=cuda_memory(device) or metal_memory(device),
            unmetered=why_no_joules(str(device)),
        )

    def _computes_in(self) -> str:
        model = self.model
        if self.loaded.computes_in is not None:
            return self.loaded.computes_in
        quantization = None if model.quantized is None else model.quantized.quantization
        return computes_in(model.dtype, model.device, quantization)

    def costs(self, inputs: Inputs, *, length: int, cross_check: bool) -> PhaseCosts:
        if self.family.costs.counted_running is not None:
            return self._running_costs(inputs, length)
        costs = account(
            self.family,
            self._geometry(inputs, length),
            weight_bytes={**self.loaded.replaced_weights(), **weight_sizes(self.network)},
            cache_element_bytes=self._cache_element_bytes(),
            cross_check=cross_check,
            as_computed=self._as_counted(),
        )
        for optimization in self.stack:
            costs = optimization.computed(costs)
        return costs

    def _as_counted(self) -> bool:
        stored = self.model.quantized is not None
        return not stored and all(optimization.as_counted for optimization in self.stack)

    def _running_costs(self, inputs: Inputs, length: int) -> PhaseCosts:
        """Counted once for all batches of one shape."""
        grids = inputs.get("image_grid_thw")
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(inputs.items()))
        key = (shapes, None if grids is None else str(grids.tolist()), length)
        if key not in self._counted:
            self.remove_hooks()
            placed, options = self.place(inputs), self.loaded.cache_options
            self._counted[key] = count_running(
                self.network,
                self.loaded.parts(),
                lambda few: self.model.generate(
                    placed, side=inputs.side, length=few, exact=True, **copy.deepcopy(options)
                ),
                prompt_tokens=int(inputs["input_ids"].shape[1]),
                length=length,
                as_computed=self._as_counted(),
            )
        return self._counted[key]

    def _cache_element_bytes(self) -> float:
        bits = self.loaded.cache_bits
        return self.model.dtype.itemsize if bits is None else bits / 8

    def _geometry(self, inputs: Inputs, length: int) -> Geometry:
        """The shape of what the whole stack computes."""
        geometry = geometry_of(self.family, inputs.processed, length)
        visual, text = count_tokens(self.family, inputs)
        for optimization in self.stack:
            geometry = optimization.shape(geometry, visual_tokens=visual, text_tokens=text)
        return geometry

    def settle(self, workload: Passes) -> None:
        # Its passes are no part of a timed generation, and may correct what the hooks are put on.
        self.remove_hooks()
        self.family.layout.prove(
            self.model,
            side=workload.img_size,
            rows=len(workload.batches[0]),
            pictures=max(len(one.pictures) for batch in workload.batches for one in batch),
        )
        if self.loaded.fixed_cache is not None:
            self.loaded.fixed_cache.settle(workload, self.network)
        for optimization in self.stack:
            optimization.settle(workload)

    def begin_pass(self) -> None:
        for optimization in self.stack:
            optimization.begin_pass()

    def answered(self) -> Iterator[Reading]:
        for optimization in self.stack:
            yield from optimization.answered()

    def memory_readings(self, workload: Passes) -> Iterator[Reading]:
        # A cache of fixed length is as long after the first token as after the last, and a network
        # whose steps are compiled would be compiled again for the hooks.
        length = 1 if self.loaded.fixed_cache is not None else None
        yield from read_cache(self.network, lambda: workload.run(0, max_new_tokens=length))
        yield from read_weights(self.network, self.loaded.parts())

    def readings(self, workload: Passes, loading: Loading) -> Iterator[Reading]:
        yield from self._build_readings(loading)
        if self.model.quantized is not None:
            yield _share(self.model.quantized.share)
            if self.model.quantized.how:
                yield read_bits(self.network, self.model.quantized.names, self.model.quantized.how)
        if self.loaded.fixed_cache is not None:
            yield from self.loaded.fixed_cache.readings()
        for optimization in self.stack:
            yield from optimization.readings()

    def _build_readings(self, loading: Loading) -> Iterator[Reading]:
        total = self._build_total(loading)
        if total.make_s is not None:
            yield reading(
                metric="make_s",
                value=total.make_s,
                status=MEASURED,
                source="perf_counter around exporting, cutting, quantizing and compiling; what was"
                " cut or exported by an earlier run counts as that run measured it",
            )
            yield _peak(total.make_peak_bytes)
        if total.artifact_bytes is not None:
            yield reading(
                metric="artifact_bytes",
                value=total.artifact_bytes,
                status=MEASURED,
                source="sizes of the files that the variant is loaded from",
            )

    def _build_total(self, loading: Loading) -> _BuildTotal:
        build, cache, quantized = self.loaded.build, self.loaded.fixed_cache, self.model.quantized
        seconds = [] if build.make_s is None else [build.make_s]
        peaks = [] if build.make_peak_bytes is None else [build.make_peak_bytes]
        if quantized is not None and quantized.made_s is not None:
            seconds.append(quantized.made_s)
            # Weights are quantized while they are loaded.
            peaks.append(loading.peak_bytes)
        if cache is not None and cache.compilation is not None and cache.settled is not None:
            seconds.append(cache.settled.compile_s)
            peaks.append(cache.settled.peak_bytes)
        return _BuildTotal(
            make_s=sum(seconds) if seconds else None,
            make_peak_bytes=max(peaks) if peaks else None,
            artifact_bytes=build.artifact_bytes,
        )

    def synchronize(self) -> None:
        self.model.synchronize()


def _single_precision_bytes(point: Point) -> int:
    network = load_family(point, locate(point)).empty_network()
    return sum(4 * one.numel() for one in network.parameters())


@dataclass(frozen=True, kw_only=True)
class _BuildTotal:
    """What a whole variant took to make, compiling in."""

    make_s: float | None
    make_peak_bytes: float | None
    artifact_bytes: float | None


def _peak(value: float | None) -> Reading:
    if value is None:
        return unavailable("make_peak_bytes", _UNKNOWN_PEAK)
    return reading(
        metric="make_peak_bytes",
        value=value,
        status=MEASURED,
        source="highest resident memory while making the variant, above that before",
    )


def _share(value: float) -> Reading:
    return reading(
        metric="quantized_share",
        value=value,
        status=DERIVED,
        source="quantized values over all values of parameters",
    )


ENGINE = TransformersEngine
