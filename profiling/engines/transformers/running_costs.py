"""FLOPs and bytes of a generation, counted operator by operator while the network runs.

For networks of which no twin without values can be called part by part. A few tokens are generated;
the cost of later steps grows with the cache by as much as that of the steps counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from profiling.costs.counting import FlopCounter
from profiling.costs.phase_costs import PhaseCosts, PhaseCount
from profiling.engines.transformers.held_memory import watch_cache
from profiling.errors import Unsupported
from profiling.models.storage import tensors_of

COUNTED = "operators counted on the running network; no independent count confirms them"
_LINEAR = f"{COUNTED}; later steps by the growth of the first two"
# Of the prefill and two steps.
_FEW = 3
_OUTSIDE = "outside"
# Settings of a text model by which a layer stops attending to all tokens before.
_BOUNDS = ("sliding_window", "attention_chunk_size")
_PREPARING = {"vision": "vision", "projector": "projector", "text_encoder": "prefill"}


class PhaseCounter(FlopCounter):
    """A counter of which a phase at a time counts; steps of decoding are numbered phases."""

    def __init__(self) -> None:
        super().__init__()
        self.tallies: dict[str, tuple[Counter[str], Counter[str], dict[int, nn.Parameter]]] = {}
        self.cache_bytes: list[int] = []
        self._open: list[str] = []
        self._step = 0
        self._switch()

    def enter(self, phase: str) -> None:
        self._open.append(phase)
        self._switch()

    def leave(self) -> None:
        self._open.pop()
        self._switch()

    def begin_step(self) -> None:
        self.enter(name_step(self._step))

    def end_step(self, cache_bytes: int) -> None:
        self.leave()
        self.cache_bytes.append(cache_bytes)
        self._step += 1

    def _switch(self) -> None:
        phase = self._open[-1] if self._open else _OUTSIDE
        fresh = (Counter[str](), Counter[str](), dict[int, nn.Parameter]())
        self.by_operator, self.unknown, self.parameters = self.tallies.setdefault(phase, fresh)

    def flops_of(self, phase: str) -> int:
        return sum(self.tallies[phase][0].values()) if phase in self.tallies else 0

    def weights_of(self, phase: str) -> int | None:
        """Bytes of the weights that a phase reads; None where it reads a part of some."""
        read = self.tallies[phase][2].values() if phase in self.tallies else ()
        if phase not in _PREPARING and any(map(_holds_experts, read)):
            return None
        return sum(one.nbytes for weight in read for one in tensors_of(weight))


def name_step(step: int) -> str:
    return f"step {step}" if step else "prefill"


def _holds_experts(weight: Any) -> bool:
    """Whether a weight is a stack of matrices, of which a token needs a few.

    A convolution of each channel by itself has three axes as well, the middle one of size one.
    """
    return bool(weight.ndim == 3 and min(weight.shape[:2]) > 1)


def count_running(
    network: Any,
    parts: Mapping[str, Sequence[nn.Module]],
    generate: Callable[[int], Any],
    *,
    prompt_tokens: int,
    length: int,
    as_computed: bool,
) -> PhaseCosts:
    """What `generate(length)` costs by phase, from generating a few tokens."""
    few = length if _is_bounded(network.config, prompt_tokens, length) else min(length, _FEW)
    counter = PhaseCounter()
    with _following(network, parts, counter), counter:
        generate(few)
    outside = counter.flops_of(_OUTSIDE)
    if outside:
        raise Unsupported(f"{outside} operations are outside of every part of this network")
    has_projector = bool(parts["projector"])
    decode = _add_up([counter.flops_of(name_step(step)) for step in range(1, few)], length - 1)
    flops = {
        "vision": counter.flops_of("vision"),
        "projector": counter.flops_of("projector") if has_projector else None,
        "prefill": counter.flops_of("prefill"),
        "decode": sum(decode) if decode else None,
    }
    return PhaseCosts(
        counts=tuple(
            PhaseCount(phase=phase, counted=count, analytic=None, fvcore=None)
            for phase, count in flops.items()
        ),
        steps={step: decode[step - 1] for step in {1, len(decode)} if step},
        uncounted=frozenset().union(*(tally[1] for tally in counter.tallies.values())),
        moved_bytes=_moved(counter, length, has_projector=has_projector),
        as_computed=as_computed,
        source=COUNTED if few == length else _LINEAR,
        cross_sources={},
    )


def _is_bounded(config: Any, prompt_tokens: int, length: int) -> bool:
    """Whether a layer reaches its bound between the first token and the last."""
    text = config.get_text_config(decoder=True)
    bounds = (getattr(text, name, None) for name in _BOUNDS)
    return any(b and prompt_tokens < b < prompt_tokens + length for b in bounds)


@contextmanager
def _following(
    network: Any, parts: Mapping[str, Sequence[nn.Module]], counter: PhaseCounter
) -> Iterator[None]:
    handles = []
    for part, phase in _PREPARING.items():
        for module in parts[part]:
            enter = module.register_forward_pre_hook(lambda *_, p=phase: counter.enter(p))
            handles += [enter, module.register_forward_hook(lambda *_: counter.leave())]
    (language,), (head,) = parts["language"], parts["head"]
    handles.append(language.register_forward_pre_hook(lambda *_: counter.begin_step()))
    try:
        with watch_cache(network) as size:
            # Behind the hooks that weigh the cache.
            end = head.register_forward_hook(lambda *_: counter.end_step(size.total_bytes))
            handles.append(end)
            yield
    finally:
        for handle in handles:
            handle.remove()


def _add_up(counted: Sequence[int], steps: int) -> list[int]:
    """The cost of each step: those counted, and a growth that stays as it was at their end."""
    known = list(counted[:steps])
    growth = known[-1] - known[-2] if len(known) > 1 else 0
    return known + [known[-1] + growth * ahead for ahead in range(1, steps - len(known) + 1)]


def _moved(counter: PhaseCounter, length: int, *, has_projector: bool) -> dict[str, int | None]:
    first, *later = counter.cache_bytes
    prefill, step = counter.weights_of("prefill"), counter.weights_of(name_step(1))
    decode = None
    if later and step is not None and first:
        decode = (length - 1) * step + sum(_add_up(later, length - 1))
    return {
        "vision": counter.weights_of("vision"),
        "projector": counter.weights_of("projector") if has_projector else None,
        "prefill": None if prefill is None or not first else prefill + first,
        "decode": decode,
    }
