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

from profiling.captures.array_libraries import ArrayLibrary, name_dtype
from profiling.captures.distances import Distance, distance, worst_elements
from profiling.captures.double import Float64Network, Unable, captured_outputs
from profiling.captures.folder import Call, Capture
from profiling.captures.functions import Arguments, Function, Settings
from profiling.captures.leaves import leaves, only_real, real_places, real_rows
from profiling.captures.reading_watch import unread_names, watch
from profiling.captures.weight_files import flat_weights
from profiling.errors import describe_error
from profiling.models.nested_weights import nest

FORMULA = 1e-9
ROUNDING, LARGEST = 4.0, 8.0
# An original without an error of its own still leaves this much of its dtype's step.
_FLOOR = 0.25
_WORST = 5
# What an array is called that is the whole of what a module returns.
_ONE = "one array"


@dataclass(frozen=True, kw_only=True)
class Output:
    """One array that a function returned, compared with the original's."""

    path: str
    formula: float | None  # relative difference in float64; None where there is none
    rounding: float | None  # relative error, in units of the original's own
    largest: float | None
    own_error: float  # of the original in its dtype, relative
    problem: str | None = None
    wrong_dtype: str | None = None  # what it is in, and what it should be in
    narrow: str | None = None  # what it is in where everything is in float64
    worst: Sequence[tuple[Sequence[int], float, float]] = ()

    def failures(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        found = []
        # Compared so that nan fails.
        if self.formula is not None and not self.formula <= FORMULA:
            cast = f", where it returns {self.narrow}," if self.narrow else ""
            found.append(f"another formula: in float64{cast} it differs by {self.formula:.1e}")
        for value, limit, what in (
            (self.rounding, ROUNDING, "error"),
            (self.largest, LARGEST, "largest error"),
        ):
            if value is not None and not value <= limit:
                found.append(f"{what} {value:.3g} times the original's own")
        return [*found, *([self.wrong_dtype] if self.wrong_dtype else [])]


@dataclass(kw_only=True)
class Verdict:
    """What a captured call says of the function that does its module's work."""

    call: Call
    kind: str
    outputs: Sequence[Output] = ()
    problem: str | None = None  # why the function could not be compared; a failure
    unjudged: str | None = None  # why nothing can be said of the function
    notes: Sequence[str] = ()
    not_compared: Sequence[str] = ()  # paths that the function left out
    unread: Sequence[str] = ()  # weights that it never looked at
    changed: Sequence[str] = ()  # what it was given and wrote into
    failed_inside: list[int] = field(default_factory=list)  # calls inside that fail, too

    def failures(self) -> list[str]:
        if self.problem is not None:
            return [self.problem]
        found = [
            f"{output.path or 'output'}: {what}"
            for output in self.outputs
            for what in output.failures()
        ]
        written = f"it changes in place {', '.join(self.changed[:3])}" if self.changed else None
        return [*([written] if written else []), *found]

    @cached_property
    def fails(self) -> bool:
        return bool(self.failures())

    @property
    def passes(self) -> bool:
        return not self.fails and self.unjudged is None

    @property
    def is_innermost(self) -> bool:
        return self.fails and not self.failed_inside

    def worst(self, name: str) -> float | None:
        values = [v for output in self.outputs if (v := getattr(output, name)) is not None]
        return max(values, default=None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a function returned for a call."""

    tensors: Mapping[str, Tensor]  # by path; in float64 for comparing
    dtypes: Mapping[str, str]  # by path, as they were returned
    changed: Sequence[str]  # weights and arguments that have other values afterwards


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
            if verdict.fails:
                for above in self.capture.parents(verdict.call):
                    if above in by_id:
                        by_id[above].failed_inside.append(verdict.call.id)
        return verdicts

    def judge(self, call: Call) -> Verdict:
        verdict = Verdict(call=call, kind=self.capture.kind(call))
        try:
            exact, captured = self.references(call)
        except Unable as error:
            verdict.unjudged = f"the original in float64: {error}"
            return verdict
        if not captured.keys() <= exact.keys():
            verdict.unjudged = "the original does not return what was captured"
            return verdict
        read: set[str] | None = set() if self.library.takes_subclasses else None
        try:
            found = self.run(call, double=False, read=read)
        except (Exception, SystemExit) as error:
            verdict.problem = f"the function raised {describe_error(error)}"
            return verdict
        verdict.changed = found.changed
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
        names = list(self.weights(call.module, double=False))
        taken = {self._flat[start + name].data_ptr() for name in read.intersection(names)}
        return [
            name
            for name in unread_names(names, read)
            if self._flat[start + name].is_floating_point()
            and self._flat[start + name].data_ptr() not in taken
            and self.exact.reads(call, name)
        ]

    # Running functions

    def weights(self, path: str, *, double: bool) -> Mapping[str, Any]:
        """The weights of a module by name, as arrays of the library; no function gets these."""
        key = (path, double)
        if key not in self._weights:
            flat, start = self._flat64 if double else self._flat, f"{path}." if path else ""
            own = {n[len(start) :]: t for n, t in flat.items() if n.startswith(start)}
            self._weights[key] = {n: self.library.array(t) for n, t in own.items()}
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

    def run(self, call: Call, *, double: bool, read: set[str] | None = None) -> Result:
        """What the function returns when it is given copies of the weights and arguments."""
        given = self._given(call, double)
        kept = self.weights(call.module, double=double)
        own = {name: self.library.copied(array) for name, array in kept.items()}
        nested = nest(own)
        function = self.find(call)
        assert function is not None
        with torch.inference_mode():
            result = function(
                nested if read is None else watch(nested, read), self.settings(call.module), given
            )
        named = name_result(result, self.capture.output(call))
        changed = []
        if self.library.mutable:
            before = self._given(call, double)
            changed = [
                *self._changed("weight", own, kept),
                *self._changed("argument", _tensors_in(given), _tensors_in(before)),
            ]
        return Result(
            tensors={path: self.library.tensor(array) for path, array in named.items()},
            dtypes={path: name_dtype(array.dtype) for path, array in named.items()},
            changed=changed,
        )

    def _given(self, call: Call, double: bool) -> Arguments:
        args, kwargs = self.capture.arguments(call, floats=torch.float64 if double else None)
        return Arguments(
            args=self.library.convert(args),
            kwargs=self.library.convert(kwargs),
            names=tuple(self.capture.modules[call.module]["parameters"]),
        )

    def _changed(self, what: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
        return [
            f"the {what} {name}"
            for name, array in before.items()
            if name not in now or not self.library.unchanged(now[name], array)
        ]

    def _run_in_float64(self, call: Call, verdict: Verdict) -> Result | None:
        if self.library.no_float64 is not None:
            verdict.notes = [*verdict.notes, self.library.no_float64]
            return None
        try:
            return self.run(call, double=True)
        except (Exception, SystemExit) as error:
            told = f"not run in float64 ({describe_error(error)})"
            verdict.notes = [*verdict.notes, told]
            return None

    # Comparing

    def _compare(
        self,
        verdict: Verdict,
        result: Result,
        double: Result | None,
        captured: Mapping[str, Tensor],
        exact: Mapping[str, Tensor],
    ) -> None:
        found = result.tensors
        unknown = [path for path in found if path not in captured]
        if unknown or not found:
            told = unknown[0] or _ONE if unknown else "no array"
            has = ", ".join(path or _ONE for path in captured) or "none"
            verdict.problem = f"the function returned {told}; the module has {has}"
            return
        if self.library.skips_other_shapes:
            alike = {n: t for n, t in found.items() if t.shape == captured[n].shape}
            found = alike or found
        real = real_rows(self._named(verdict.call))
        verdict.not_compared = [path for path in captured if path not in found]
        outputs = []
        for path, own in captured.items():
            if path in found:
                outputs.append(
                    self._output(verdict.call, path, result, double, own, exact[path], real)
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
        result: Result,
        double: Result | None,
        own: Tensor,
        exact: Tensor,
        real: Tensor | None,
    ) -> Output:
        found, dtype = result.tensors[path], result.dtypes[path]
        if found.is_complex() != own.is_complex():
            told = f"{dtype} instead of {name_dtype(own.dtype)}"
            return _unmeasured(path, told)
        if found.shape != own.shape:
            told = f"shape {list(found.shape)} instead of {list(own.shape)}"
            return _unmeasured(path, told)
        full, whole = found, exact.cpu()
        exact, own, found = (only_real(path, t, real) for t in (whole, own.cpu(), full))
        if not own.is_floating_point():
            return _whole(path, found, own, full, whole, real)
        step = torch.finfo(own.dtype).eps * _FLOOR
        formula = narrow = None
        if double is not None and path in double.tensors:
            formula = distance(only_real(path, double.tensors[path], real), exact).relative
            narrow = double.dtypes[path] if double.dtypes[path] != "float64" else None
        wanted = self.library.dtype_in(own.dtype) if self.library.keeps_dtypes else dtype
        theirs, mine = self.own_error(call, path, own, exact, real), distance(found, exact)
        rounded = own.dtype != torch.float64 or formula is None
        return Output(
            path=path,
            formula=formula,
            rounding=mine.relative / max(theirs.relative, step) if rounded else None,
            largest=mine.largest / max(theirs.largest, step) if rounded else None,
            own_error=theirs.relative,
            wrong_dtype=f"{dtype} instead of {wanted}" if dtype != wanted else None,
            narrow=narrow,
            worst=worst_elements(full, whole, _WORST, real=real_places(path, whole, real)),
        )


def _whole(
    path: str, found: Tensor, own: Tensor, full: Tensor, whole: Tensor, real: Tensor | None
) -> Output:
    """Whole numbers and truth values are the same or are not."""
    same = torch.equal(found.to(own.dtype), own) and not found.is_floating_point()
    problem = None if same else "values other than the original's, which are no rounded numbers"
    places = real_places(path, whole, real)
    return _unmeasured(
        path, problem, () if same else worst_elements(full, whole, _WORST, real=places)
    )


def _unmeasured(path: str, problem: str | None, worst: Any = ()) -> Output:
    """An output that is right or wrong, without a distance; `problem` is None where it is right."""
    return Output(
        path=path,
        formula=None,
        rounding=None,
        largest=None,
        own_error=0.0,
        problem=problem,
        worst=worst,
    )


def _tensors_in(given: Arguments) -> dict[str, Any]:
    return dict(leaves(given.named()))


def name_result(result: Any, output: Any) -> dict[str, Any]:
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
    return found


def _by_field(result: Any, output: Any) -> Any:
    """A tuple in the place of an output with fields has them in their order."""
    if isinstance(result, tuple | list) and isinstance(output, Mapping):
        # More than there are fields are not among them, and are named by their position.
        names = [*output, *map(str, range(len(output), len(result)))]
        return dict(zip(names, result, strict=False))
    return result
