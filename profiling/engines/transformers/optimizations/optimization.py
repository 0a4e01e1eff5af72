"""What an optimization is, and how several of them stack on one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from profiling.costs.phase_costs import PhaseCosts
from profiling.engines.engine import Passes
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.errors import Unsupported
from profiling.files import LARGEST_SETTINGS, read_json
from profiling.models.family import Family
from profiling.models.geometry import Geometry
from profiling.models.loading import LoadPlan, find_family, load_model
from profiling.models.model import Prepared
from profiling.models.network import Layout
from profiling.models.quantization import Quantization
from profiling.models.quantizers import BITSANDBYTES, TORCHAO
from profiling.models.weights import locate, stored_format
from profiling.points.point import Point
from profiling.records import Reading
from profiling.runtimes.offered import PARTS, TEXT
from profiling.samples.samples import Sample

_OF_STACK = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_REQUIREMENTS = {BITSANDBYTES: "requirements.txt", TORCHAO: "requirements-torchao.txt"}


class Encoded(NamedTuple):
    """A batch as generate gets it, and as the processor made it."""

    given: Mapping[str, Tensor]
    processed: Mapping[str, Tensor]


class Optimization:
    """A change of how a model is loaded, or of the loaded model; by default neither."""

    # Whether the network still computes what is counted of the plain one, in its dtype.
    as_counted: ClassVar[bool] = True
    # The parts whose torch modules it needs, and which a runtime cannot run beside it.
    changes: ClassVar[frozenset[str]] = frozenset(PARTS)
    # Whether it cuts the network, replaces one of its parts, or needs to know their shapes.
    replaces_parts: ClassVar[bool] = False
    # Why it can have no clips; None where it can.
    no_clip: ClassVar[str | None] = None
    # Whether it leaves the network as it is, or only chooses its dtype.
    is_plain: ClassVar[bool] = False
    # Why its logits are meant to be others than those of the plain model, if they are.
    approximates: ClassVar[str | None] = None
    # Whether it quantizes, cuts or exports weights, which then must not be quantized already.
    needs_dense: ClassVar[bool] = False
    # Counted phases of the plain model that it leaves out, with the reason.
    left_out: ClassVar[Mapping[str, str]] = {}
    # What a count of costs before loading does not know of it, if anything.
    uncertain: str | None = None

    def __init__(self, *, kind: str, order: int) -> None:
        self.kind, self.order = kind, order

    def import_libraries(self) -> None:
        """Import slow libraries before timing the load."""

    def check_layout(self, layout: type[Layout]) -> None:
        """Raise Unsupported where a family cannot have it, on whatever machine."""

    def check_family(self, family: Family) -> None:
        """Raise Unsupported where a family of this size cannot have it."""

    def check_point(self, point: Point) -> None:
        """Raise Unsupported where other keys of a point exclude it, on whatever machine."""

    def check(self, point: Point) -> None:
        """Raise Unsupported, before anything is loaded, where this machine cannot have it."""

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def apply(self, loaded: LoadedModel) -> None:
        """Change the loaded model."""

    def stored_bits(self, family: Family) -> Mapping[str, float]:
        """Bits of a value, scales in, of the layers that it quantizes after loading."""
        return {}

    def cache_bits(self, dtype: torch.dtype) -> float | None:
        """Bits that a cache of its own stores for a key or a value, scales in."""
        return None

    def newest_tokens(self, count: int) -> int:
        """Of so many tokens behind a prompt, those that a quantized cache keeps in the dtype."""
        return 0

    def recall(self, family: Family, batch: Sequence[Prepared], side: int | None) -> Encoded | None:
        """What `encode` gave for the batch, where the pictures need not be processed again."""
        return None

    def encode(
        self,
        family: Family,
        batch: Sequence[Prepared],
        side: int | None,
        tensors: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """What generate gets, from the processor's tensors."""
        return tensors

    def computed(self, costs: PhaseCosts) -> PhaseCosts:
        """The costs of what is computed, from those of the plain model at the same shape."""
        return costs.without(self.left_out)

    def shape(
        self, geometry: Geometry, *, visual_tokens: Sequence[int], text_tokens: Sequence[int]
    ) -> Geometry:
        """The shape of what is computed, from that of the plain model and each row's tokens."""
        return geometry

    def settle(self, workload: Passes) -> None:
        """Make what depends on a workload's shapes; again if it grew."""

    def readings(self) -> Iterator[Reading]:
        """What it made and did until everything was measured."""
        return iter(())

    def begin_pass(self) -> None:
        """Forget what an earlier pass over the samples left and users would not profit from."""

    def uncounted(self) -> AbstractContextManager[None]:
        """Around passes that no user would make, which are not to show in counts."""
        return nullcontext()

    def answered(self) -> Iterator[Reading]:
        """What can be told only right after every sample was answered once."""
        return iter(())


class Precision(Optimization):
    """Weights and arithmetic in one dtype."""

    changes = frozenset()
    is_plain = True
    dtype: ClassVar[torch.dtype]

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, dtype=self.dtype)


class Quantized(Optimization):
    """Quantized weights; arithmetic in the dtype of the stack."""

    as_counted = False
    needs_dense = True
    changes = frozenset({TEXT})

    def __init__(self, *, kind: str, order: int, quantization: Quantization) -> None:
        super().__init__(kind=kind, order=order)
        self.quantization = quantization
        if quantization.engine == BITSANDBYTES and quantization.bits == 8:
            self.uncertain = (
                "products in 8 bits are counted at the rate of the dtype, which a device may exceed"
            )

    def check(self, point: Point) -> None:
        engine = self.quantization.engine
        require_package(engine, _REQUIREMENTS[engine])
        if point.device.startswith("mps") and engine == BITSANDBYTES:
            raise Unsupported(f"bitsandbytes has no kernels for device={point.device}")

    def import_libraries(self) -> None:
        import_module(self.quantization.engine)

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, quantization=self.quantization)


def check_shown(point: Point, samples: Sequence[Sample]) -> None:
    """Raise Unsupported where the family or an optimization cannot have what samples show."""
    find_family(point.model).check_shown(samples)
    if not any(sample.clip for sample in samples):
        return
    stack = read_stack(point.optimization_settings)
    for name, optimization in zip(point.optimization, stack, strict=True):
        if optimization.no_clip is not None:
            raise Unsupported(f"optimization={name}: {optimization.no_clip}")


def check_anywhere(point: Point, stack: Sequence[Optimization]) -> None:
    """Raise Unsupported where the family or the rest of the point excludes one of a stack."""
    layout, quantized = find_family(point.model).layout, why_not_dense(point)
    for name, optimization in zip(point.optimization, stack, strict=True):
        if quantized is not None and optimization.needs_dense:
            raise Unsupported(f"optimization={name}: {quantized}")
        optimization.check_layout(layout)
        optimization.check_point(point)


def why_not_dense(point: Point) -> str | None:
    """Why the weights cannot be quantized, cut or exported; None where they can."""
    stored = stored_format(point)
    return None if stored is None else f"the weights are those of {stored.describe()}"


def dtype_of(point: Point) -> str:
    """What a point computes in, as far as that is known without fetching anything."""
    for name, dtype in _OF_STACK.items():
        if name in point.optimization:
            return dtype
    config = Path(locate(point).config) / "config.json"
    if point.weights == "random" or not config.is_file():
        return point.public_dtype
    values = read_json(config, at_most=LARGEST_SETTINGS)
    return str(values.get("dtype") or values.get("torch_dtype") or "float32")


def require_package(name: str, requirements: str) -> None:
    """Raise Unsupported where a package is missing, without importing it."""
    if find_spec(name) is None:
        raise Unsupported(f"{name} is not installed: pip install -r {requirements}")


def build(point: Point, stack: Sequence[Optimization]) -> LoadedModel:
    """The model of a point with its whole stack, which was prepared before."""
    plan = LoadPlan(dtype=None)
    for optimization in stack:
        plan = optimization.plan(plan)
    loaded = LoadedModel(model=load_model(point, plan))
    model = loaded.model
    said = getattr(model.family.config, "quantization_config", None)
    for optimization in stack:
        # Of a hub's checkpoint it is not known before.
        if optimization.needs_dense and model.stored_values and said is not None:
            how = "a quantized checkpoint" if model.quantized is None else model.quantized.how
            raise Unsupported(f"it needs weights that are not quantized; they are those of {how}")
        optimization.apply(loaded)
    return loaded


def read_stack(settings: Mapping[str, Mapping[str, Any]]) -> Sequence[Optimization]:
    """The optimizations by name, in the order given, from the modules of the same names."""
    return [
        import_module(f"profiling.engines.transformers.optimizations.{name}").OPTIMIZATION(
            **options
        )
        for name, options in settings.items()
    ]
