"""Reads the queries and keys of one attention module, whatever kernel runs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Queries and keys [B, H, S, D], and the factor of their product.
Look = Callable[[Tensor, Tensor, float], None]

_numbers = count()


def tap_attention(module: Any, look: Look) -> None:
    """Call `look` at each call of the module's attention, which stays as it is.

    The module gets a configuration of its own, which names an attention function that looks first:
    fused projections, norms and rotations have been applied by then.
    """
    own = module.config
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    whole = ALL_ATTENTION_FUNCTIONS.get_interface(own._attn_implementation, eager)

    def looking(attention: nn.Module, query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Any:
        scaling = named.get("scaling") or query.shape[-1] ** -0.5
        look(query, key, float(scaling))
        return whole(attention, query, key, *rest, **named)

    name = f"looking_{next(_numbers)}"
    ALL_ATTENTION_FUNCTIONS.register(name, looking)
    module.config = copy.copy(own)
    module.config._attn_implementation_internal = name
