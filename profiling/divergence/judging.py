"""The errors of logits, and whether the rounding of a precision explains them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy

from profiling.divergence.reference import Reference, difference, root_mean_square
from profiling.errors import Unsupported

TIE, ROUNDING, ERROR = "tie", "rounding", "error"
# Roundings are estimated to their order of magnitude: an error so many times as large is another.
LIMIT = 10.0
_SINGLE = "float32"
# The largest relative error of one rounding.
_ROUNDOFF = {
    "float64": 2.0**-53,
    _SINGLE: 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8": 2.0**-4,
}
_WHOLE = re.compile(r"int([2-8])")


@dataclass(frozen=True, kw_only=True)
class TokenError:
    """How far one token's logits are from the plain model's."""

    sample: int
    token: int
    error: float  # the largest difference of a logit
    relative: float  # root mean square of the differences over the spread of the logits
    scale: float  # the relative error that rounding is expected to give
    margin: float  # of the plain model's likeliest token above the second
    differs: bool  # whether another token is the likeliest

    @property
    def ratio(self) -> float:
        return self.relative / self.scale

    @property
    def is_explained(self) -> bool:
        """Whether errors of the size of rounding, and no more, moved the logits."""
        # Two logits that move towards each other by the error exchange their places.
        can_change = not self.differs or self.margin <= 2 * self.error
        return self.ratio <= LIMIT and can_change


def find_roundoff(precisions: Collection[str], longest_sum: int) -> float:
    """The relative error of one rounding in the coarsest of some precisions.

    That of a sum of n products in single precision grows with the root of n (Higham and Mary,
    2019). The plain model has it too, so that nothing is finer.
    """
    return max(_one_roundoff(name, longest_sum) for name in {*precisions, _SINGLE})


def _one_roundoff(name: str, longest_sum: int) -> float:
    if name == _SINGLE:
        return _ROUNDOFF[name] * math.sqrt(longest_sum)
    whole = _WHOLE.fullmatch(name)
    if whole is not None:
        # Half a step between the whole numbers, over the largest of them.
        return 1 / (2 * (2 ** (int(whole.group(1)) - 1) - 1))
    if name not in _ROUNDOFF:
        raise Unsupported(f"it is not known how {name} rounds")
    return _ROUNDOFF[name]


def find_errors(
    reference: Reference, sample: int, logits: numpy.ndarray, roundoff: float
) -> list[TokenError]:
    """The error of each token of a sample, of which an engine gave these logits [T, V]."""
    vocabulary = int(reference.vocabulary[0])
    if logits.shape[1] != vocabulary:
        raise Unsupported(f"there are logits of {logits.shape[1]} tokens, not of {vocabulary}")
    rows = reference.rows(sample)
    spread_out = difference(logits[:, reference.columns], reference.values[rows])
    held = numpy.take_along_axis(logits, reference.highest[rows], axis=1)
    highest = difference(held, reference.highest_values[rows])
    largest = numpy.maximum(numpy.abs(spread_out).max(1), numpy.abs(highest).max(1))
    relative = root_mean_square(spread_out) / reference.spreads[rows]
    scales = roundoff * reference.growth[rows]
    differs = numpy.where(numpy.isfinite(logits), logits, -numpy.inf).argmax(1)
    differs = differs != reference.choices[rows]
    return [
        TokenError(
            sample=sample,
            token=token,
            error=float(largest[token]),
            relative=float(relative[token]),
            scale=float(scales[token]),
            margin=float(reference.margins[rows][token]),
            differs=bool(differs[token]),
        )
        for token in range(len(logits))
    ]


def judge(errors: Sequence[TokenError]) -> str:
    """One word for all tokens."""
    if not all(one.is_explained for one in errors):
        return ERROR
    return TIE if any(one.differs for one in errors) else ROUNDING


def first_differences(errors: Sequence[TokenError]) -> list[TokenError]:
    """Of each sample the first token at which another one is the likeliest, if there is one."""
    found: dict[int, TokenError] = {}
    for one in errors:
        if one.differs:
            found.setdefault(one.sample, one)
    return list(found.values())
