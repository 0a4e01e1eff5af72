"""What an optimization is, and how several of them stack on one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from profiling.models.loading import LoadPlan, load_model
from profiling.models.model import Model
from profiling.models.quantization import Quantization
from profiling.point import Point


class Unsupported(RuntimeError):
    """What this machine, this family or an installed package cannot do: one line that says why."""


class Optimization:
    """A change of how a model is loaded, or of the loaded model; by default neither."""

    def __init__(self, *, kind: str, order: int) -> None:
        self.kind, self.order = kind, order

    def import_libraries(self) -> None:
        """What is slow to import is so before loading is timed."""

    def check(self, point: Point) -> None:
        """Raise Unsupported, before anything is loaded, where this point cannot have it."""

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def apply(self, model: Model) -> Model:
        return model


class Precision(Optimization):
    """Weights and arithmetic in one dtype."""

    dtype: ClassVar[torch.dtype]

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, dtype=self.dtype)


class Quantized(Optimization):
    """Weights in few bits; what is computed in stays the dtype of the stack."""

    def __init__(self, *, kind: str, order: int, quantization: Quantization) -> None:
        super().__init__(kind=kind, order=order)
        self.quantization = quantization

    def check(self, point: Point) -> None:
        require_package("bitsandbytes", "requirements.txt")

    def import_libraries(self) -> None:
        import_module("bitsandbytes")

    def plan(self, plan: LoadPlan) -> LoadPlan:
        return dataclasses.replace(plan, quantization=self.quantization)


def require_package(name: str, requirements: str) -> None:
    """Raise Unsupported where a package is missing, without importing it."""
    if find_spec(name) is None:
        raise Unsupported(f"{name} is not installed: pip install -r {requirements}")


def prepare_stack(point: Point) -> Sequence[Optimization]:
    """The optimizations of a point, once it is known that they can be had."""
    stack = read_stack(point.optimization_settings)
    for optimization in stack:
        optimization.check(point)
    for optimization in stack:
        optimization.import_libraries()
    return stack


def build_model(point: Point) -> Model:
    """The model of a point with its whole stack of optimizations."""
    stack = prepare_stack(point)
    plan = LoadPlan(dtype=None)
    for optimization in stack:
        plan = optimization.plan(plan)
    model = load_model(point, plan)
    for optimization in stack:
        model = optimization.apply(model)
    return model


def read_stack(settings: Mapping[str, Mapping[str, Any]]) -> Sequence[Optimization]:
    """The optimizations by name, in the order given, from the modules of the same names."""
    return [
        import_module(f"profiling.optimizations.{name}").OPTIMIZATION(**options)
        for name, options in settings.items()
    ]
