"""The tokens and logits of the plain model that others are compared with, in one file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy
from safetensors import SafetensorError
from safetensors.numpy import load, save

from profiling.engines.engine import Engine
from profiling.errors import Unsupported
from profiling.files import read_bytes
from profiling.samples.samples import Sample

_LOG = logging.getLogger("profiling")
# Beside the records, in a folder that readers of records pass over.
FOLDER = ".references"
LARGEST = 2**31
# Of larger vocabularies so many logits of each token are kept, evenly spread, and the highest.
MOST_COLUMNS, HIGHEST = 4096, 32
# Errors grow linearly with their size up to about 0.01, and this is far above rounding.
NOISE = 1e-3
_VERSION = 2
_DIGEST_BYTES = 32
# A first answer that takes so many times the time budget is the last one.
_PATIENCE = 5


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The plain model's answers to some samples, one row of the arrays a token.

    `growth` is the relative error of a token's logits over that of every module's output, by which
    the size of a rounding tells that of its effect.
    """

    lengths: numpy.ndarray  # [N] tokens of each sample
    tokens: numpy.ndarray  # [T]
    choices: numpy.ndarray  # [T] the likeliest token
    margins: numpy.ndarray  # [T] its logit above that of the second
    spreads: numpy.ndarray  # [T] standard deviation of the logits
    growth: numpy.ndarray  # [T]
    columns: numpy.ndarray  # [C] the logits that are kept, by token
    values: numpy.ndarray  # [T, C]
    highest: numpy.ndarray  # [T, H] the likeliest tokens
    highest_values: numpy.ndarray  # [T, H]
    vocabulary: numpy.ndarray  # [1]
    longest_sum: numpy.ndarray  # [1] products in the longest sum of a linear layer

    def rows(self, sample: int) -> slice:
        """The rows of a sample's tokens."""
        start = int(self.lengths[:sample].sum())
        return slice(start, start + int(self.lengths[sample]))

    def tokens_of(self, sample: int) -> list[int]:
        found: list[int] = self.tokens[self.rows(sample)].tolist()
        return found

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.lengths)

    def check(self) -> None:
        """Raise ValueError where the arrays do not belong together."""
        count = int(self.lengths.sum())
        whole = all(len(getattr(self, name)) == count for name in _BY_TOKEN)
        wide = self.values.shape == (count, len(self.columns))
        wide = wide and self.highest.shape == self.highest_values.shape
        if not (whole and wide and len(self.lengths) and self.lengths.min() > 0):
            raise ValueError("its arrays do not belong together")

    @classmethod
    def of(cls, sample: SampleLogits, *, longest_sum: int) -> Self:
        """What is kept of one sample."""
        logits = sample.logits
        vocabulary = logits.shape[1]
        columns = numpy.arange(vocabulary)
        if vocabulary > MOST_COLUMNS:
            columns = numpy.linspace(0, vocabulary - 1, MOST_COLUMNS).astype(numpy.int64)
        count = min(HIGHEST, vocabulary)
        highest = numpy.argpartition(-logits, count - 1, axis=1)[:, :count]
        highest_values = numpy.take_along_axis(logits, highest, axis=1)
        top = numpy.sort(highest_values, axis=1)
        spreads = spread(logits)
        return cls(
            lengths=numpy.asarray([len(sample.tokens)]),
            tokens=numpy.asarray(sample.tokens),
            choices=logits.argmax(axis=1),
            margins=top[:, -1] - top[:, -2] if count > 1 else numpy.zeros(len(top)),
            spreads=spreads,
            growth=root_mean_square(difference(sample.disturbed, logits)) / spreads / NOISE,
            columns=columns,
            values=logits[:, columns],
            highest=highest,
            highest_values=highest_values,
            vocabulary=numpy.asarray([vocabulary]),
            longest_sum=numpy.asarray([longest_sum]),
        )

    @classmethod
    def join(cls, samples: Sequence[Self]) -> Self:
        """Several samples of one model as one."""
        (first, *_) = samples
        joined = {
            name: numpy.concatenate([getattr(one, name) for one in samples])
            for name in ("lengths", *_BY_TOKEN)
        }
        return replace(first, **joined)


_BY_TOKEN = (
    *("tokens", "choices", "margins", "spreads", "growth", "values"),
    *("highest", "highest_values"),
)


@dataclass(frozen=True, kw_only=True)
class SampleLogits:
    """The tokens of an answer, their logits, and those of the same model with noise."""

    tokens: Sequence[int]
    logits: numpy.ndarray  # [T, V]
    disturbed: numpy.ndarray  # [T, V]


def spread(logits: numpy.ndarray) -> numpy.ndarray:  # [T, V] -> [T]
    """The standard deviation of the logits of each token, those that are finite; never 0."""
    finite = numpy.where(numpy.isfinite(logits), logits, numpy.nan)
    found = numpy.nanstd(finite.astype(numpy.float64), axis=1)
    return numpy.maximum(found, numpy.finfo(numpy.float32).tiny)


def difference(mine: numpy.ndarray, other: numpy.ndarray) -> numpy.ndarray:
    """What is equal differs by 0 even if infinite; what is not finite on one side, by the most."""
    with numpy.errstate(invalid="ignore", over="ignore"):
        found = mine.astype(numpy.float64) - other
    most = float(numpy.finfo(numpy.float32).max)
    found = numpy.nan_to_num(found, nan=most, posinf=most, neginf=-most)
    return numpy.where(mine == other, 0.0, found)


def root_mean_square(errors: numpy.ndarray) -> numpy.ndarray:  # [T, C] -> [T]
    largest = numpy.maximum(numpy.abs(errors).max(axis=1), numpy.finfo(numpy.float64).tiny)
    # Scaled, since the squares of the largest errors would overflow.
    found: numpy.ndarray = largest * numpy.sqrt(numpy.square(errors / largest[:, None]).mean(1))
    return found


# Making one


def answer_samples(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    img_size: int | None,
    prompt_len: int | None,
    length: int,
    budget_s: float,
) -> Reference:
    """The plain model's own answers, one sample at a time, as many as fit into the time."""
    begun, longest = time.monotonic(), engine.longest_sum()
    found: list[Reference] = []
    for sample in samples:
        inputs = engine.place(engine.encode(engine.prepare([sample], prompt_len), img_size))
        generated = engine.generate(inputs, length=length, exact=False, trace=None)
        if not found and time.monotonic() - begun > _PATIENCE * budget_s:
            raise Unsupported(
                f"one answer of the plain model takes more than {_PATIENCE} times"
                f" profiler.time_budget_s={budget_s}"
            )
        tokens = engine.tokens(generated)
        (logits,) = engine.forced_logits(inputs, tokens, length)
        with engine.disturbed(NOISE):
            (off,) = engine.forced_logits(inputs, tokens, length)
        whole = SampleLogits(tokens=tokens[0], logits=logits, disturbed=off)
        found.append(Reference.of(whole, longest_sum=longest))
        if time.monotonic() - begun > budget_s:
            break
    return Reference.join(found)


# Keeping it


def address(facts: dict[str, Any]) -> str:
    """The name of the file for what the plain model was asked."""
    text = json.dumps({"version": _VERSION, **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find(path: Path) -> Reference | None:
    """A reference as it was kept; None where there is none that can be read."""
    try:
        whole = read_bytes(path, at_most=LARGEST)
        known, content = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != known:
            raise ValueError("it is not as it was written")
        arrays = load(content)
        reference = Reference(**arrays)
        reference.check()
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, TypeError) as problem:
        reason = " ".join(str(problem).split())
        _LOG.warning(f"{path}: {reason:.200}: the plain model answers again")
        return None
    return reference


def keep(path: Path, reference: Reference) -> None:
    """Write a file that holds all of the reference or is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(
        {name: numpy.ascontiguousarray(array) for name, array in vars(reference).items()}
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(hashlib.sha256(content).digest() + content)
    os.replace(partial, path)
