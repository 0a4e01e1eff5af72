"""The vision side of both BLIP-2 models as functions: a vision transformer and a Q-Former.

Read it from the top: a picture becomes square patches with a class token, layers attend among
them, a fixed number of learned queries attends to the result, one linear layer makes visual tokens.
Weights are nested (`nested_weights`), `config` is the configuration as a dict. Shapes: B pictures,
P patches of a picture, Q queries, V = B * Q visual tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.models.array_functions import (
    Array,
    Config,
    Weights,
    activation,
    attend,
    cut_patches,
    join_heads,
    layer_norm,
    library,
    linear,
    mlp,
    patch_embedding,
    resize_positions,
    split_heads,
)

# What the functions take for granted, by the place in the configuration.
ASSUMED = {"qformer_config.use_qformer_text_input": (False, None)}


def sizes(inputs: Mapping[str, Any]) -> None:
    """Nothing: the pictures of a batch have one size, which is in the shape of the pixels."""


# The vision transformer


def vision(pixels: Array, sizes: None, weights: Weights, config: Config) -> Array:
    """States [B, 1 + P, D] of the patches of pictures [B, 3, height, width]."""
    own, settings = weights["vision_model"], config["vision_config"]
    x = picture_embedding(pixels, own["embeddings"], settings)
    for layer in own["encoder"]["layers"]:
        x = vision_layer(x, layer, settings)
    return layer_norm(x, own["post_layernorm"], settings["layer_norm_eps"])


def picture_embedding(pixels: Array, weights: Weights, settings: Config) -> Array:
    """The class token and the patches, each with its position [B, 1 + P, D]."""
    xp, side = library(pixels), settings["patch_size"]
    patches = patch_embedding(cut_patches(pixels, side), weights["patch_embedding"])  # [B, P, D]
    rows, _, width = patches.shape
    first = xp.astype(weights["class_embedding"], patches.dtype)
    high, wide = (length // side for length in pixels.shape[-2:])
    table = resize_positions(weights["position_embedding"][0], high, wide)
    joined = xp.concat((xp.broadcast_to(first, (rows, 1, width)), patches), axis=1)
    return joined + xp.astype(table, joined.dtype)


def vision_layer(x: Array, weights: Weights, settings: Config) -> Array:  # [B, 1 + P, D]
    eps, own = settings["layer_norm_eps"], weights["mlp"]
    x = x + vision_attention(layer_norm(x, weights["layer_norm1"], eps), weights, settings)
    normed = layer_norm(x, weights["layer_norm2"], eps)
    return x + mlp(normed, own["fc1"], own["fc2"], settings["hidden_act"])


def vision_attention(x: Array, weights: Weights, settings: Config) -> Array:
    own, heads, xp = weights["self_attn"], settings["num_attention_heads"], library(x)
    # One layer makes queries, keys and values of all heads, one after another.
    joined = xp.reshape(linear(x, own["qkv"]), (*x.shape[:2], 3, heads, -1))
    query, key, value = (xp.permute_dims(joined[:, :, part], (0, 2, 1, 3)) for part in range(3))
    return linear(join_heads(attend(query, key, value)), own["projection"])


# The Q-Former


def project(states: Array, weights: Weights, config: Config) -> Array:
    """Visual tokens [V, text width] from the states [B, 1 + P, D] of pictures."""
    own, settings, xp = weights["qformer"], config["qformer_config"], library(states)
    # The Q-Former may be in single precision where the rest is in half precision.
    scale = own["layernorm"]["weight"]
    queries = xp.astype(weights["query_tokens"], scale.dtype)  # [1, Q, D]
    queries = xp.broadcast_to(queries, (states.shape[0], *queries.shape[1:]))
    x = layer_norm(queries, own["layernorm"], settings["layer_norm_eps"])
    for layer in own["encoder"]["layer"]:
        x = qformer_layer(x, xp.astype(states, scale.dtype), layer, settings)
    tokens = linear(xp.astype(x, states.dtype), weights["language_projection"])
    return xp.reshape(tokens, (-1, tokens.shape[-1]))


def qformer_layer(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    """Queries [B, Q, D] attend to each other and, in some layers, to the states of the picture."""
    x = qformer_attention(x, x, weights["attention"], settings)
    if "crossattention" in weights:
        x = qformer_attention(x, states, weights["crossattention"], settings)
    act = activation(settings["hidden_act"])
    inner = act(linear(x, weights["intermediate_query"]["dense"]))
    return add_and_norm(inner, x, weights["output_query"], settings)


def qformer_attention(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    own, heads = weights["attention"], settings["num_attention_heads"]
    query = split_heads(linear(x, own["query"]), heads)
    key, value = (split_heads(linear(states, own[name]), heads) for name in ("key", "value"))
    return add_and_norm(join_heads(attend(query, key, value)), x, weights["output"], settings)


def add_and_norm(x: Array, before: Array, weights: Weights, settings: Config) -> Array:
    added = linear(x, weights["dense"]) + before
    return layer_norm(added, weights["LayerNorm"], settings["layer_norm_eps"])
