"""The branches of modules' `forward` that no captured call takes."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from torch import nn


@dataclass
class LinesTaken:
    """Notes which lines of the watched classes' `forward` are run."""

    _forwards: dict[CodeType, type] = field(default_factory=dict)
    _lines: dict[CodeType, set[int]] = field(default_factory=dict)

    def watch(self, module: nn.Module) -> None:
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and code not in self._forwards:
            self._forwards[code] = type(module)
            self._lines[code] = set()

    @contextmanager
    def noting(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        lines = self._lines.get(frame.f_code)
        if lines is None:
            return None

        def note(inner: FrameType, kind: str, _: Any) -> Any:
            lines.add(inner.f_lineno)
            return note

        lines.add(frame.f_lineno)
        return note

    def untaken(self) -> Iterator[tuple[str, str]]:
        """The class and the condition of each branch that was not taken, and how it came out."""
        for code, kind in self._forwards.items():
            for condition, outcome in _branches_outside(code, self._lines[code]):
                yield kind.__name__, f"`{condition}` is never {outcome}"


def _branches_outside(code: CodeType, taken: set[int]) -> Iterator[tuple[str, str]]:
    if not taken:
        return
    try:
        source, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        return
    # Line 1 of what is parsed is the first line of the function.
    shift = first - 1
    for node in ast.walk(ast.parse(textwrap.dedent("".join(source)))):
        if isinstance(node, ast.If) and node.test.lineno + shift in taken:
            for body, outcome in ((node.body, "true"), (node.orelse, "false")):
                if body and not _only_complains(body) and body[0].lineno + shift not in taken:
                    yield ast.unparse(node.test), outcome


def _only_complains(body: list[ast.stmt]) -> bool:
    return all(isinstance(statement, ast.Raise) for statement in body)
