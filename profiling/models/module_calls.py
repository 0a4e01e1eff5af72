"""The work of the library's modules, done by plain functions: for verifying captured calls.

A function of a table `MODULES` gets a module's own nested weights, its settings and the arguments
of one call, and returns what the module returns (`profiling/captures/functions.py` says it in
full). Here is what the tables of several families share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from profiling.models.array_functions import (
    Array,
    KeysValues,
    Rotation,
    Weights,
    activation,
    causal,
    device_of,
    embed,
    gated_layer,
    gated_mlp,
    grouped_attention,
    layer_norm,
    library,
    linear,
    rms_norm,
    text_rotation,
)

Call = Callable[[Weights, Any, Any], Any]


def only(arguments: Any) -> Array:
    """The argument of a module that has one."""
    (x, *_) = arguments.named().values()
    return x


def activation_call(name: str) -> Call:
    return lambda weights, settings, arguments: activation(name)(only(arguments))


def rms_norm_call(weights: Weights, settings: Any, arguments: Any) -> Array:
    return rms_norm(only(arguments), weights, settings.module["variance_epsilon"])


def gated_mlp_call(weights: Weights, settings: Any, arguments: Any) -> Array:
    return gated_mlp(only(arguments), weights, settings.config["hidden_act"])


# Attention: positions, masks and caches as the library hands them over


def turn_in(arguments: Any, axis: int) -> Rotation:
    """The library's cosines and sines, which are there twice over, with an axis for heads."""
    pair = arguments["position_embeddings"]
    width = pair[0].shape[-1] // 2
    cos, sin = (library(part).expand_dims(part[..., :width], axis=axis) for part in pair)
    return cos, sin


def doubled(turn: Rotation, axis: int) -> tuple[Array, Array]:
    """The same as the library has it."""
    xp = library(turn[0])
    cos, sin = (xp.squeeze(xp.concat((part, part), axis=-1), axis=axis) for part in turn)
    return cos, sin


def visible_in(mask: Array | None, x: Array) -> Array | None:
    """What each query [B, S, …] may see; without a mask, what comes before it."""
    xp = library(x)
    if mask is not None:
        # A mask of numbers adds the lowest one to what is hidden.
        return mask if mask.dtype == xp.bool else mask >= 0
    if x.shape[1] == 1:
        return None
    return causal(xp.ones(x.shape[:2], dtype=xp.bool, device=device_of(x)))


def cache_in(arguments: Any, layer: int) -> KeysValues | None:
    cache: KeysValues | None = (arguments.get("past_key_values") or {}).get(layer)
    return cache


def with_cache(output: Any, layer: int, kept: KeysValues) -> dict[str, Any]:
    return {"output": output, "cache": {layer: kept}}


def grouped_attention_call(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, layer = arguments["hidden_states"], settings.module["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache, turn = cache_in(arguments, layer), turn_in(arguments, 1)
    seen, kept = grouped_attention(x, weights, turn, visible, cache, None, settings.config)
    return with_cache((seen,), layer, kept)


def gated_layer_call(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, layer = arguments["hidden_states"], settings.parts["self_attn"]["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache, turn = cache_in(arguments, layer), turn_in(arguments, 1)
    x, kept = gated_layer(x, weights, turn, visible, cache, None, settings.config)
    return with_cache(x, layer, kept)


def text_rotation_call(weights: Weights, settings: Any, arguments: Any) -> tuple[Array, Array]:
    x, positions = arguments["x"], arguments["position_ids"]
    return doubled(text_rotation(positions, weights["inv_freq"], x), 1)


COMMON: Mapping[str, Call] = {
    "Embedding": lambda weights, settings, arguments: embed(only(arguments), weights["weight"]),
    "GELU": activation_call("gelu"),
    "GELUActivation": activation_call("gelu"),
    "LayerNorm": lambda weights, settings, arguments: layer_norm(
        only(arguments), weights, settings.module["eps"]
    ),
    "Linear": lambda weights, settings, arguments: linear(only(arguments), weights),
    "NewGELUActivation": activation_call("gelu_new"),
    "QuickGELUActivation": activation_call("quick_gelu"),
    "ReLU": activation_call("relu"),
    "ReLUSquaredActivation": activation_call("relu2"),
    "SiLUActivation": activation_call("silu"),
}

# Qwen2.5-VL's language model has Llama's layers.
GATED_DECODER: Mapping[str, Call] = {
    **dict.fromkeys(("LlamaAttention", "Qwen2_5_VLAttention"), grouped_attention_call),
    **dict.fromkeys(("LlamaDecoderLayer", "Qwen2_5_VLDecoderLayer"), gated_layer_call),
    **dict.fromkeys(("LlamaMLP", "Qwen2MLP"), gated_mlp_call),
    **dict.fromkeys(("LlamaRMSNorm", "Qwen2_5_VLRMSNorm"), rms_norm_call),
    "LlamaRotaryEmbedding": text_rotation_call,
}
