"""The work of the library's modules, done by plain functions: for verifying captured calls.

A function of a table `MODULES` gets a module's own nested weights, its settings and the arguments
of one call, and returns what the module returns (`profiling/captures/functions.py` says it in
full). Here is what the tables of several families share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from profiling.errors import Unsupported
from profiling.models.array_functions import (
    Array,
    Cache,
    Context,
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
    patch_embedding,
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


def visible_in(arguments: Any, name: str = "attention_mask") -> Array | None:
    """What each query [B, S, …] may see; without a mask, what comes before it."""
    mask, x = arguments.get(name), arguments["hidden_states"]
    xp = library(x)
    if mask is not None:
        # A mask of numbers adds the lowest one to what is hidden.
        return mask if mask.dtype == xp.bool else mask >= 0
    if x.shape[1] == 1:
        return None
    return causal(xp.ones(x.shape[:2], dtype=xp.bool, device=device_of(x)))


def real_in(mask: Array | None, x: Array, count: int) -> Array:
    """Which of so many tokens [B, T] are not padding."""
    xp = library(x)
    if mask is None:
        return xp.ones((x.shape[0], count), dtype=xp.bool, device=device_of(x))
    return xp.astype(mask, xp.bool)


def visible_among(mask: Array | None, x: Array, cached: int) -> Array:
    """What the last tokens [B, S, …] may see of all; `mask` [B, T] says which are not padding."""
    count = x.shape[1]
    return causal(real_in(mask, x, cached + count))[:, :, -count:]


def context_in(arguments: Any) -> Context:
    turned = arguments.get("position_embeddings") is not None
    turn = turn_in(arguments, 1) if turned else None
    return Context(visible=visible_in(arguments), turn=turn)


def cache_in(arguments: Any, layer: int) -> Cache:
    cache: Cache = (arguments.get("past_key_values") or {}).get(layer)
    return cache


def with_cache(output: Any, caches: Any) -> dict[str, Any]:
    return {"output": output, "cache": caches}


def attention_call(attention: Callable[..., tuple[Array, KeysValues]]) -> Call:
    """Of a decoder's attention `(x, weights, context, cache, config)`."""

    def call(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
        x, number = arguments["hidden_states"], settings.module["layer_idx"]
        context, cache = context_in(arguments), cache_in(arguments, number)
        seen, kept = attention(x, weights, context, cache, settings.config)
        return with_cache((seen,), {number: kept})

    return call


def layer_call(layer: Callable[..., tuple[Array, KeysValues]]) -> Call:
    """Of a decoder's layer `(x, weights, context, cache, config)`."""

    def call(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
        x, number = arguments["hidden_states"], settings.parts["self_attn"]["layer_idx"]
        context, cache = context_in(arguments), cache_in(arguments, number)
        x, kept = layer(x, weights, context, cache, settings.config)
        return with_cache(x, {number: kept})

    return call


def decoder_call(decoder: Callable[..., tuple[Array, list[KeysValues]]], axes: int = 1) -> Call:
    """Of a whole decoder `(x, positions, context, caches, weights, config)`."""

    def call(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
        x, config = embeddings_in(arguments, weights["embed_tokens"]), settings.config
        held = arguments.get("past_key_values") or {}
        caches = [held[number] for number in sorted(held)] or None
        cached = caches[0][0].shape[2] if caches else 0
        context = Context(visible_among(arguments.get("attention_mask"), x, cached))
        # Some libraries have one axis of positions more, which masks are made by.
        positions = arguments["position_ids"]
        positions = positions[-axes:] if axes > 1 else positions
        x, kept = decoder(x, positions, context, caches, weights, config)
        return with_cache({"last_hidden_state": x}, dict(enumerate(kept)))

    return call


def embeddings_in(arguments: Any, weights: Weights) -> Array:
    """The embeddings that a model was given, or those of its tokens."""
    x = arguments.get("inputs_embeds")
    return embed(arguments["input_ids"], weights["weight"]) if x is None else x


def text_rotation_call(weights: Weights, settings: Any, arguments: Any) -> tuple[Array, Array]:
    x, positions = arguments["x"], arguments["position_ids"]
    return doubled(text_rotation(positions, weights["inv_freq"], x), 1)


def patches_call(weights: Weights, settings: Any, arguments: Any) -> Array:
    """A convolution whose stride is its kernel: [B, C, …] to [B, D, …]."""
    x, sides = only(arguments), settings.module["kernel_size"]
    if list(sides) != list(settings.module["stride"]) or any(settings.module["padding"]):
        raise Unsupported("a convolution whose stride is not its kernel")
    xp, counts = library(x), [n // side for n, side in zip(x.shape[2:], sides, strict=True)]
    pairs = [n for pair in zip(counts, sides, strict=True) for n in pair]
    axes = range(2, 2 + len(pairs))
    cut = xp.permute_dims(xp.reshape(x, (*x.shape[:2], *pairs)), (0, *axes[::2], 1, *axes[1::2]))
    y = patch_embedding(xp.reshape(cut, (x.shape[0], math.prod(counts), -1)), weights)
    return xp.reshape(xp.matrix_transpose(y), (x.shape[0], y.shape[-1], *counts))


COMMON: Mapping[str, Call] = {
    **dict.fromkeys(("Conv2d", "Conv3d"), patches_call),
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
    **dict.fromkeys(("LlamaAttention", "Qwen2_5_VLAttention"), attention_call(grouped_attention)),
    **dict.fromkeys(("LlamaDecoderLayer", "Qwen2_5_VLDecoderLayer"), layer_call(gated_layer)),
    **dict.fromkeys(("LlamaMLP", "Qwen2MLP"), gated_mlp_call),
    **dict.fromkeys(("LlamaRMSNorm", "Qwen2_5_VLRMSNorm"), rms_norm_call),
    "LlamaRotaryEmbedding": text_rotation_call,
}
