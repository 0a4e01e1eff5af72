"""Marks on single values of a parameter."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pytest


def slow_except(values: Iterable[Hashable], *fast: Hashable) -> list[Any]:
    """The values, of which the fast suite takes only those named. A tuple is several arguments."""
    every = list(values)
    assert set(fast) <= set(every)
    return [one if one in fast else _mark_slow(one) for one in every]


def _mark_slow(value: Hashable) -> Any:
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=pytest.mark.slow)
