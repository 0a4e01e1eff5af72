"""Sweeps made of several blocks. Each block is a product of values; a sweep is their union."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from math import prod

from profiling.errors import ConfigError
from profiling.points.sweeping import MOST_POINTS

# The values of each key, written as on the command line: key -> ["key=value", ...].
Values = Mapping[str, Sequence[str]]


def unite(shared: Values, blocks: Sequence[Values], typed: Values) -> list[list[str]]:
    """Each point of any block once. Typed values replace shared ones and narrow blocks."""
    typed = _read_forced(typed, {key for block in (shared, *blocks) for key in block})
    products = [_apply(shared, block, typed) for block in blocks]
    _check_size(products)
    jobs: dict[frozenset[str], list[str]] = {}
    for product in products:
        for job in itertools.product(*product.values()):
            jobs.setdefault(frozenset(job), list(job))
    if not jobs:
        raise _nothing_left(blocks, typed)
    return list(jobs.values())


def _read_forced(typed: Values, known: Collection[str]) -> Values:
    """`++key` stands for `key` where the sweep has it, since Hydra gives both the same meaning."""
    plain: dict[str, Sequence[str]] = {}
    for key, values in typed.items():
        name = key.removeprefix("++")
        if name in known:
            plain[name] = [value.removeprefix("++") for value in values]
        else:
            plain[key] = values
    return plain


def _apply(shared: Values, block: Values, typed: Values) -> dict[str, Sequence[str]]:
    narrowed = {
        key: [value for value in typed.get(key, values) if value in values]
        for key, values in block.items()
    }
    return {**shared, **typed, **narrowed}


def _check_size(products: Sequence[Values]) -> None:
    total = sum(prod(map(len, product.values())) for product in products)
    if total > MOST_POINTS:
        longest = max((item for one in products for item in one.items()), key=_length)
        value = f"{len(longest[1])} values"
        allowed = f"the sweep has {total} points; allowed are at most {MOST_POINTS}"
        raise ConfigError(longest[0], value, allowed)


def _length(item: tuple[str, Sequence[str]]) -> int:
    return len(item[1])


def _nothing_left(blocks: Sequence[Values], typed: Values) -> ConfigError:
    narrowing = [key for key in typed if any(key in block for block in blocks)]
    for key in narrowing:
        known = list(dict.fromkeys(value for block in blocks for value in block.get(key, ())))
        if not set(known) & set(typed[key]):
            listed = ", ".join(map(_value_of, known))
            return _refuse(key, typed, f"allowed in this experiment is {listed}")
    *others, last = narrowing
    beside = ", ".join(",".join(typed[key]) for key in others)
    return _refuse(last, typed, f"this experiment has no point with it and {beside}")


def _refuse(key: str, typed: Values, allowed: str) -> ConfigError:
    return ConfigError(key, ",".join(map(_value_of, typed[key])), allowed)


def _value_of(assignment: str) -> str:
    return assignment.partition("=")[2]
