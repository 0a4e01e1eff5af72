"""Whether a network computes numbers at all, checked in its first pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor


class NonFinite(RuntimeError):
    """A network whose logits are NaN or infinite; the message names the layer that gives them."""


class FirstLogits(LogitsProcessor):  # type: ignore[misc]
    """Looks at the scores of the first token and changes nothing.

    Single scores of -inf are how the library forbids tokens, so a row without any finite score
    counts, and not one without some.
    """

    def __init__(self) -> None:
        self.are_finite: bool | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # [B, S], [B, V] -> [B, V]
        if self.are_finite is None:
            # NaN and +inf are the highest of their row, too.
            self.are_finite = bool(scores.amax(dim=-1).isfinite().all())
        return scores


def find_layer(network: nn.Module, run: Callable[[], object]) -> str:
    """The first module, by the order of a pass, whose output is not finite; a name and its class.

    The pass runs without compiled code, so that every module is called.
    """
    found: list[str] = []
    named = {module: name for name, module in network.named_modules()}

    def look(module: nn.Module, _given: Any, output: Any) -> None:
        if not found and not _is_finite(output):
            found.append(f"{named[module]} ({type(module).__name__})")

    hooks = [module.register_forward_hook(look) for module in named]
    try:
        with torch.compiler.set_stance("force_eager"):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "no layer alone"


def _is_finite(output: Any) -> bool:
    """Of several outputs the first counts: others, such as a mask, may hold -inf."""
    first = next(iter(output.values()), None) if isinstance(output, dict) else output
    while isinstance(first, (tuple, list)) and first:
        first = first[0]
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return True
    return bool(first.isfinite().all())
