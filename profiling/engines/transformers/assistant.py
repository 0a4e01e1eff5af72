"""A smaller model of the same family that drafts tokens for a network."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from typing import Any

from torch import nn

from profiling.models.family import Family

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_COUNTS = ("num_hidden_layers", "num_decoder_layers")


# What the library's own loop provokes at each call of an assistant.
_UNWANTED = ("Passing `generation_config` together with", "A custom logits processor of type")
_warnings = logging.getLogger("transformers.generation.utils")


def _is_wanted(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_UNWANTED)


def first_layers(network: Any, family: Family, layers: int) -> Any:
    """The network with its first decoder layers only; all values are shared."""
    config = copy.deepcopy(network.config)
    text = config.get_text_config(decoder=True)
    for name in _COUNTS:
        if hasattr(text, name):
            setattr(text, name, layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    assistant = holder = _alike(network)
    assistant.config = config
    for name in family.layout.decoder.split("."):
        inner = _alike(getattr(holder, name))
        holder._modules[name] = inner
        holder = inner
    holder.config, holder.layers = text, nn.ModuleList(holder.layers[:layers])
    assistant.generation_config = copy.deepcopy(network.generation_config)
    return assistant


def _alike(module: Any) -> Any:
    """The module with its own table of submodules, and without hooks that it gets later."""
    twin = copy.copy(module)
    vars(twin)["_modules"] = dict(module._modules)
    for name in _HOOKS:
        vars(twin)[name] = OrderedDict(vars(module)[name])
    return twin


def draft_steadily(assistant: Any, num_tokens: int) -> None:
    """So many tokens in each step, whatever was accepted of earlier ones.

    The library would draft more or fewer from generation to generation, so that times depended on
    the order of samples.
    """
    _warnings.addFilter(_is_wanted)
    assistant.generation_config.num_assistant_tokens_schedule = "constant"
    assistant.generation_config.num_assistant_tokens = num_tokens
    assistant.generation_config.assistant_confidence_threshold = 0.0


def see_pictures(assistant: Any) -> None:
    """Have an assistant's first call have the pictures.

    The library takes every call of an assistant for a later one, and leaves the pictures out.
    """
    prepare = assistant.prepare_inputs_for_generation

    def prepare_seeing(input_ids: Any, **kwargs: Any) -> Any:
        cache = kwargs.get("past_key_values")
        kwargs["is_first_iteration"] = cache is None or not cache.get_seq_length()
        return prepare(input_ids, **kwargs)

    assistant.prepare_inputs_for_generation = prepare_seeing
