"""Judges functions by captured calls: is it the same formula, and is its rounding as good?

Two questions that one correlation coefficient mixes up and answers neither of:

- Same formula: original and function, both in float64 on the captured inputs, differ by at most
  1e-9 of the norm. Whatever is left is another computation, not rounding.
- Rounding: in the captured dtype, the function's error against the original in float64 is at most
  4 times the error that the original itself makes, and its largest error at most 8 times.

Every call is given its captured inputs, so errors do not travel from call to call: the innermost
calls that fail are where the error is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from profiling.captures.array_libraries import ArrayLibrary
from profiling.captures.distances import Distance, distance, worst_elements
from profiling.captures.double import Float64Network, Unable, captured_outputs
from profiling.captures.folder import Call, Capture
from profiling.captures.functions import Arguments, Function, Settings
from profiling.captures.leaves import leaves, only_real, real_rows
from profiling.captures.reading_watch import unread_names, watch
from profiling.captures.weight_files import flat_weights
from profiling.errors import describe_error
from profiling.models.nested_weights import flatten, nest

FORMULA = 1e-9
ROUNDING, LARGEST = 4.0, 8.0
# An original without an error of its own still leaves this much of its dtype's step.
_FLOOR = 0.25
_WORST = 5


@dataclass(frozen=True, kw_only=True)
class Output:
    """One array that a function returned, compared with the original's."""

    path: str
    formula: float | None  # relative difference in float64; None where there is none
    rounding: float | None  # relative error, in units of the original's own
    largest: float | None
    own_error: float  # of the original in its dtype, relative
    problem: str | None = None
    worst: Sequence[tuple[Sequence[int], float, float]] = ()

    def failures(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        found = []
        # Compared so that nan fails.
        if self.formula is not None and not self.formula <= FORMULA:
            found.append(f"another formula: in float64 it differs by {self.formula:.1e}")
        for value, limit, what in (
            (self.rounding, ROUNDING, "error"),
            (self.largest, LARGEST, "largest error"),
        ):
            if value is not None and not value <= limit:
                found.append(f"{what} {value:.3g} times the original's own")
        return found


@dataclass(kw_only=True)
class Verdict:
    """What a captured call says of the function that does its module's work."""

    call: Call
    kind: str
    outputs: Sequence[Output] = ()
    problem: str | None = None  # why the function could not be compared; a failure
    notes: Sequence[str] = ()
    not_compared: Sequence[str] = ()  # paths that the function left out
    unread: Sequence[str] = ()  # weights that it never looked at
    failed_inside: list[int] = field(default_factory=list)  # calls inside that fail, too

    def failures(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        return [
            f"{output.path or 'output'}: {what}"
            for output in self.outputs
            for what in output.failures()
        ]

    @cached_property
    def passes(self) -> bool:
        return not self.failures()

    @property
    def is_innermost(self) -> bool:
        return not self.passes and not self.failed_inside

    def worst(self, name: str) -> float | None:
        values = [v for output in self.outputs if (v := getattr(output, name)) is not None]
        return max(values, default=None)


class Judge:
    """Puts captured calls to functions and to the original in float64."""

    def __init__(
        self,
        *,
        capture: Capture,
        network: nn.Module,
        find: Callable[[Call], Function | None],
        library: ArrayLibrary,
    ) -> None:
        self.capture, self.find, self.library = capture, find, library
        self.exact = Float64Network(capture, network)
        self._flat = flat_weights(network)
        self._flat64 = flat_weights(self.exact.network)
        self._weights: dict[tuple[str, bool], Any] = {}

    def judge_all(self) -> list[Verdict]:
        verdicts = [self.judge(call) for call in self.capture.calls if self.find(call)]
        by_id = {verdict.call.id: verdict for verdict in verdicts}
        for verdict in verdicts:
            if not verdict.passes:
                for above in self.capture.parents(verdict.call):
                    if above in by_id:
                        by_id[above].failed_inside.append(verdict.call.id)
        return verdicts

    def judge(self, call: Call) -> Verdict:
        verdict = Verdict(call=call, kind=self.capture.kind(call))
        try:
            exact, captured = self.references(call)
        except Unable as error:
            verdict.problem = f"cannot be judged: the original in float64: {error}"
            return verdict
        read: set[str] | None = set() if self.library.takes_subclasses else None
        try:
            found = self.run(call, double=False, read=read)
        except Exception as error:
            verdict.problem = f"the function raised {describe_error(error)}"
            return verdict
        if read is not None:
            verdict.unread = self._unread(call, read)
        double = self._run_in_float64(call, verdict)
        self._compare(verdict, found, double, captured, exact)
        return verdict

    def references(self, call: Call) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """What is wanted, in float64 and as the original has it, by path."""
        return self.exact.outputs(call), captured_outputs(self.capture, call)

    def own_error(
        self, call: Call, path: str, own: Tensor, exact: Tensor, real: Tensor | None
    ) -> Distance:
        """The error of the original in its own dtype, which a function's is measured by.

        `own` and `exact` are its outputs at the positions that are real.
        """
        return distance(own, exact)

    def _unread(self, call: Call, read: set[str]) -> list[str]:
        """Weights that have an effect on the call, and that the function took by no name.

        Whole numbers are no weights: a module makes them of its sizes, and a function may, too.
        """
        start = f"{call.module}." if call.module else ""
        names = list(flatten(self.weights(call.module, double=False)))
        taken = {self._flat[start + name].data_ptr() for name in read.intersection(names)}
        return [
            name
            for name in unread_names(names, read)
            if self._flat[start + name].is_floating_point()
            and self._flat[start + name].data_ptr() not in taken
            and self.exact.reads(call, name)
        ]

    # Running functions

    def weights(self, path: str, *, double: bool) -> Any:
        """The nested weights of a module as arrays of the library."""
        key = (path, double)
        if key not in self._weights:
            flat, start = self._flat64 if double else self._flat, f"{path}." if path else ""
            own = {n[len(start) :]: t for n, t in flat.items() if n.startswith(start)}
            self._weights[key] = nest({n: self.library.array(t) for n, t in own.items()})
        return self._weights[key]

    def settings(self, path: str) -> Settings:
        start, modules = f"{path}." if path else "", self.capture.modules
        parts = {
            name[len(start) :]: module["settings"]
            for name, module in modules.items()
            if name.startswith(start) and name != path
        }
        own = modules[path]
        return Settings(
            path=path,
            kind=own["class"],
            module=own["settings"],
            parts=parts,
            config=self.capture.config(path),
        )

    def run(
        self, call: Call, *, double: bool, read: set[str] | None = None, weights: Any = None
    ) -> dict[str, Tensor]:
        """The arrays that the function returns, by path; in float64 for comparing."""
        args, kwargs = self.capture.arguments(call, floats=torch.float64 if double else None)
        given = Arguments(
            args=self.library.convert(args),
            kwargs=self.library.convert(kwargs),
            names=tuple(self.capture.modules[call.module]["parameters"]),
        )
        own = self.weights(call.module, double=double) if weights is None else weights
        watched = own if read is None else watch(own, read)
        function = self.find(call)
        assert function is not None
        with torch.inference_mode():
            result = function(watched, self.settings(call.module), given)
        return name_result(result, self.library, self.capture.output(call))

    def _run_in_float64(self, call: Call, verdict: Verdict) -> dict[str, Tensor] | None:
        if self.library.no_float64 is not None:
            verdict.notes = [*verdict.notes, self.library.no_float64]
            return None
        try:
            return self.run(call, double=True)
        except Exception as error:
            told = f"not run in float64 ({describe_error(error)})"
            verdict.notes = [*verdict.notes, told]
            return None

    # Comparing

    def _compare(
        self,
        verdict: Verdict,
        found: Mapping[str, Tensor],
        double: Mapping[str, Tensor] | None,
        captured: Mapping[str, Tensor],
        exact: Mapping[str, Tensor],
    ) -> None:
        unknown = [path for path in found if path not in captured]
        if unknown or not found:
            told = f"returned {unknown[0] or 'an array'}" if unknown else "returned no array"
            verdict.problem = f"the function {told}; the module has {', '.join(captured) or 'none'}"
            return
        if self.library.skips_other_shapes:
            alike = {n: t for n, t in found.items() if t.shape == captured[n].shape}
            found = alike or found
        real = real_rows(self._named(verdict.call))
        verdict.not_compared = [path for path in captured if path not in found]
        outputs = []
        for path, own in captured.items():
            if path in found:
                wide = None if double is None else double.get(path)
                outputs.append(
                    self._output(verdict.call, path, found[path], wide, own, exact[path], real)
                )
        verdict.outputs = outputs
        notes = {self.library.note(own.dtype) for own in captured.values()} - {None}
        verdict.notes = [*verdict.notes, *map(str, notes)]

    def _named(self, call: Call, floats: torch.dtype | None = None) -> dict[str, Any]:
        args, kwargs = self.capture.arguments(call, floats=floats)
        names = self.capture.modules[call.module]["parameters"]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def _output(
        self,
        call: Call,
        path: str,
        found: Tensor,
        double: Tensor | None,
        own: Tensor,
        exact: Tensor,
        real: Tensor | None,
    ) -> Output:
        if found.shape != own.shape:
            told = f"shape {list(found.shape)} instead of {list(own.shape)}"
            return Output(
                path=path, formula=None, rounding=None, largest=None, own_error=0.0, problem=told
            )
        exact, own, found = (only_real(path, t.cpu(), real) for t in (exact, own, found))
        if not own.is_floating_point():
            return _whole(path, found, own)
        step = torch.finfo(own.dtype).eps * _FLOOR
        formula = None
        if double is not None:
            formula = distance(only_real(path, double, real), exact).relative
        theirs, mine = self.own_error(call, path, own, exact, real), distance(found, exact)
        rounded = own.dtype != torch.float64 or formula is None
        return Output(
            path=path,
            formula=formula,
            rounding=mine.relative / max(theirs.relative, step) if rounded else None,
            largest=mine.largest / max(theirs.largest, step) if rounded else None,
            own_error=theirs.relative,
            worst=worst_elements(found, exact, _WORST),
        )


def _whole(path: str, found: Tensor, own: Tensor) -> Output:
    """Whole numbers and truth values are the same or are not."""
    same = torch.equal(found.to(own.dtype), own) and not found.is_floating_point()
    problem = None if same else "values other than the original's, which are no rounded numbers"
    worst = () if same else worst_elements(found, own, _WORST)
    return Output(
        path=path,
        formula=None,
        rounding=None,
        largest=None,
        own_error=0.0,
        problem=problem,
        worst=worst,
    )


def name_result(result: Any, library: ArrayLibrary, output: Any) -> dict[str, Tensor]:
    """The arrays of a function's result by the paths that the original's output has."""
    cache = None
    if isinstance(result, Mapping) and set(result) == {"output", "cache"}:
        result, cache = result["output"], result["cache"]
    wanted = [path for path, _ in leaves(output)]
    found = dict(leaves(_by_field(result, output)))
    if list(found) == [""] and "" not in wanted and wanted:
        found = {wanted[0]: found[""]}
    if cache is not None:
        found |= dict(leaves(cache, "cache"))
    return {path: library.tensor(array) for path, array in found.items()}


def _by_field(result: Any, output: Any) -> Any:
    """A tuple in the place of an output with fields has them in their order."""
    if isinstance(result, tuple | list) and isinstance(output, Mapping):
        return dict(zip(output, result, strict=False))
    return result
