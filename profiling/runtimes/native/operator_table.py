"""What each operator of a graph computes, written once for the adapters of all frameworks.

An operator is a function of an adapter, the node's attributes and its inputs. Inputs that are
`static` (shapes, axes, counts) are host arrays; what a function computes from them alone stays on
the host, so that no framework sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

Attributes = Mapping[str, Any]
Compute = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """How an operator is computed, and what of its definition that covers."""

    compute: Compute
    attributes: frozenset[str]
    static: frozenset[int]
    # The largest number of outputs; None where it depends on the node.
    outputs: int | None


OPERATORS: dict[str, Operator] = {}


class NotCovered(Exception):
    """A node uses an operator in a way that the table does not cover: what that is."""


def operator(
    *names: str,
    attributes: Sequence[str] = (),
    static: Sequence[int] = (),
    outputs: int | None = 1,
) -> Callable[[Compute], Compute]:
    """Put a function into the table under the names of operators."""

    def put(compute: Compute) -> Compute:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = Operator(
                compute=compute,
                attributes=frozenset(attributes),
                static=frozenset(static),
                outputs=outputs,
            )
        return compute

    return put


def whole_numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in numpy.ravel(values))
