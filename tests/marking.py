"""Marks on single values of a parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(values: Iterable[str], *fast: str) -> list[Any]:
    """The values, of which the fast suite takes only those named."""
    names = list(values)
    assert set(fast) <= set(names)
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
