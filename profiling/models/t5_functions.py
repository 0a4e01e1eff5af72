"""T5's encoder and decoder as functions, over the arrays of `array_functions`.

Distances between tokens have a learned bias, and products of queries and keys are not scaled.
Shapes: B rows, S tokens, T new tokens that fit, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from profiling.models.array_functions import (
    Array,
    Cache,
    Config,
    Context,
    KeysValues,
    Weights,
    activation,
    attend,
    embed,
    join_heads,
    library,
    linear,
    place_like,
    remember,
    rms_norm,
    split_heads,
)


def encoder(x: Array, real: Array, weights: Weights, config: Config) -> Array:  # [B, S, D]
    order, context = numpy.arange(x.shape[1]), Context(real[:, None, None])
    buckets = bucket(order - order[:, None], config, both_ways=True)  # [S, S]
    bias = distance_bias(buckets, first_attention(weights), x)  # [1, H, S, S]
    for block in weights["block"]:
        attention, feed = block["layer"]
        x, _ = self_layer(x, attention, context, None, bias, config)
        x = feed_layer(x, feed, config)
    return rms_norm(x, weights["final_layer_norm"], config["layer_norm_epsilon"])


def self_layer(
    x: Array, weights: Weights, context: Context, cache: Cache, bias: Array, config: Config
) -> tuple[Array, KeysValues]:  # [B, S, D]
    own, inner = weights["SelfAttention"], layer_norm_of(x, weights, config)
    known = remember(keys_values(inner, own, config), cache, context.slot)
    return x + read(inner, known, own, config, context.visible, bias), known


def feed_layer(x: Array, weights: Weights, config: Config) -> Array:
    return x + feed_forward(layer_norm_of(x, weights, config), weights["DenseReluDense"], config)


def layer_norm_of(x: Array, weights: Weights, config: Config) -> Array:
    return rms_norm(x, weights["layer_norm"], config["layer_norm_epsilon"])


def keys_values(states: Array, weights: Weights, config: Config) -> KeysValues:
    key, value = (split_heads(linear(states, weights[n]), config["num_heads"]) for n in "kv")
    return key, value


def read(
    x: Array,
    known: KeysValues,
    weights: Weights,
    config: Config,
    visible: Array | None,
    bias: Array | None,
) -> Array:
    """Attention of states [B, S, D] to keys and values, whose products are not scaled."""
    query = split_heads(linear(x, weights["q"]), config["num_heads"])
    seen = attend(query, *known, visible, bias=bias, scale=1.0)
    return linear(join_heads(seen), weights["o"])


def feed_forward(x: Array, weights: Weights, config: Config) -> Array:
    act, out = activation(config["dense_act_fn"]), weights["wo"]
    if config["is_gated_act"]:
        inner = act(linear(x, weights["wi_0"])) * linear(x, weights["wi_1"])
    else:
        inner = act(linear(x, weights["wi"]))
    # The last layer may be in single precision where the rest is in half precision.
    return linear(library(x).astype(inner, out["weight"].dtype), out)


def bucket(distance: numpy.ndarray, config: Config, *, both_ways: bool) -> numpy.ndarray:
    """The row of the table of biases for a distance: key's place less the query's.

    Small distances have a row each, larger ones share rows in logarithmic steps. The logarithm is
    in single precision, as in the library: where a step begins depends on it.
    """
    count = config["relative_attention_num_buckets"] // (2 if both_ways else 1)
    farthest = config["relative_attention_max_distance"]
    ahead = count * (distance > 0) if both_ways else 0
    far = numpy.abs(distance) if both_ways else numpy.maximum(-distance, 0)
    exact = count // 2
    ratio = numpy.maximum(far, 1).astype(numpy.float32) / exact
    steps = numpy.log(ratio) / math.log(farthest / exact) * (count - exact)
    large = numpy.minimum(exact + steps.astype(int), count - 1)
    return ahead + numpy.where(far < exact, far, large)


def distance_bias(buckets: numpy.ndarray, attention: Weights, like: Array) -> Array:
    """Biases [1, H, *buckets]; all layers take them from the table of the first."""
    table = attention["relative_attention_bias"]["weight"]
    rows = embed(place_like(buckets, like), table)  # [*buckets, H]
    return library(like).moveaxis(rows, -1, 0)[None]


def first_attention(weights: Weights) -> Weights:
    own: Weights = weights["block"][0]["layer"][0]["SelfAttention"]
    return own


# The decoder


def decoder(
    x: Array,  # [B, S, D]
    context: Context,
    bias: Array,  # [1, H, S, T]
    caches: Sequence[Cache],
    cross: Sequence[KeysValues],
    real: Array | None,  # [B, 1, 1, S]: what of the prompt is not padding
    weights: Weights,
    config: Config,
) -> tuple[Array, list[KeysValues]]:
    """The states of new tokens after every layer, and the caches with them."""
    kept = []
    layers = (block["layer"] for block in weights["block"])
    for (attention, crossing, feed), cache, known in zip(layers, caches, cross, strict=True):
        x, cache = self_layer(x, attention, context, cache, bias, config)
        x = cross_layer(x, crossing, known, real, config)
        x = feed_layer(x, feed, config)
        kept.append(cache)
    return rms_norm(x, weights["final_layer_norm"], config["layer_norm_epsilon"]), kept


def cross_layer(
    x: Array, weights: Weights, known: KeysValues, real: Array | None, config: Config
) -> Array:  # [B, S, D]
    inner = layer_norm_of(x, weights, config)
    return x + read(inner, known, weights["EncDecAttention"], config, real, None)


def cross_caches(states: Array, weights: Weights, config: Config) -> list[KeysValues]:
    """Keys and values of what was read [B, S, D], for every layer of the decoder."""
    attentions = (block["layer"][1]["EncDecAttention"] for block in weights["block"])
    return [keys_values(states, own, config) for own in attentions]
