"""The likeliest token, again and again: what `generate` does without sampling.

The scores are changed as the library changes them for the settings of a checkpoint's
generation_config.json that are known here; any other setting that would change the answer is
refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy

from profiling.errors import Unsupported
from profiling.models.array_functions import Array, library, place_like, widen

State = dict[str, Any]
Step = Callable[[Array, State], tuple[Array, State]]

# Settings that change greedy answers and are not known here, and the values that change nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("num_beams", "num_beam_groups", "num_return_sequences"), (1,)),
    **dict.fromkeys(("constraints", "dola_layers", "force_words_ids", "penalty_alpha"), ()),
    "encoder_repetition_penalty": (1,),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length"), (0,)),
    **dict.fromkeys(("bad_words_ids", "sequence_bias", "suppress_tokens", "stop_strings"), ([],)),
    **dict.fromkeys(("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"), ()),
    **dict.fromkeys(("exponential_decay_length_penalty", "watermarking_config", "max_time"), ()),
    "guidance_scale": (1,),
    "min_new_tokens": (0,),
    "remove_invalid_values": (False,),
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a row ends, and how the scores of tokens are changed before one is chosen."""

    ends: tuple[int, ...]
    padding: int  # what a row has after its end
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, settings: Any) -> Rules:
        """The rules of the library's GenerationConfig."""
        for name, neutral in _NEUTRAL.items():
            value = getattr(settings, name, None)
            if value is not None and value not in neutral:
                raise Unsupported(f"generation_config.json has {name}={value}: not known here")
        ends = settings.eos_token_id
        listed = (ends,) if isinstance(ends, int) else tuple(ends or ())
        # As the library does it where no token for padding is named.
        fallback = listed[0] if listed else 0
        padding = fallback if settings.pad_token_id is None else settings.pad_token_id
        penalty = 1.0 if settings.repetition_penalty is None else settings.repetition_penalty
        return cls(ends=listed, padding=int(padding), repetition_penalty=float(penalty))


def choose(
    logits: Array, forbidden: Array | None, seen: Array | None, penalty: float
) -> Array:  # [B, V], [V], [B, V] -> [B]
    """The likeliest token that is not forbidden; a penalty lowers the scores of tokens seen."""
    xp, scores = library(logits), widen(logits)
    if seen is not None:
        lowered = xp.where(scores < 0, scores * penalty, scores / penalty)
        scores = xp.where(seen, lowered, scores)
    if forbidden is not None:
        scores = xp.where(forbidden, xp.asarray(-xp.inf, dtype=scores.dtype), scores)
    return xp.argmax(scores, axis=-1)


def decode(
    logits: Array,  # [B, V] of the first new token
    state: State,
    step: Step,
    *,
    length: int,
    rules: Rules,
    exact: bool = False,
    history: numpy.ndarray | None = None,  # [B, S]: the tokens before, for the repetition penalty
    choose: Callable[..., Array] = choose,
    mark: Callable[[int], None] | None = None,
) -> numpy.ndarray:
    """New tokens [B, n]: at most `length`, all rows of one length; with `exact`, no row ends early.

    `mark` is called with the number of tokens right after each was chosen.
    """
    count, vocabulary = logits.shape
    ends = numpy.isin(numpy.arange(vocabulary), rules.ends)
    forbidden = place_like(ends, logits) if exact else None
    seen = _count_history(history, count, vocabulary) if rules.repetition_penalty != 1 else None
    done, tokens = numpy.zeros(count, bool), []
    while True:
        repeated = None if seen is None else place_like(seen, logits)
        chosen = to_host(choose(logits, forbidden, repeated, rules.repetition_penalty))
        tokens.append(numpy.where(done, rules.padding, chosen))
        if mark is not None:
            mark(len(tokens))
        done |= numpy.isin(tokens[-1], rules.ends)
        if len(tokens) == length or done.all():
            return numpy.stack(tokens, axis=1)
        if seen is not None:
            seen[numpy.arange(count), tokens[-1]] = True
        logits, state = step(place_like(tokens[-1], logits), state)


def _count_history(history: numpy.ndarray | None, rows: int, vocabulary: int) -> numpy.ndarray:
    seen = numpy.zeros((rows, vocabulary), bool)
    if history is not None:
        seen[numpy.arange(rows)[:, None], history] = True
    return seen


def to_host(x: Array) -> numpy.ndarray:
    """The values as NumPy's, on the host."""
    return numpy.asarray(x.cpu() if array_api_compat.is_torch_array(x) else x)
