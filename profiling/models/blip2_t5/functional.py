"""BLIP-2 with flan-T5 as functions of its inputs, its weights and its configuration.

The vision side is that of `blip2/functional.py`. Here its visual tokens take their places among
those of the text, a T5 encoder reads them, and a T5 decoder attends to what it read. Distances
between tokens have a learned bias, and products of queries and keys are not scaled. Shapes: B rows,
S tokens of a prompt, T new tokens that fit, V visual tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Config,
    KeysValues,
    Weights,
    activation,
    advance,
    attend,
    device_of,
    embed,
    fuse,
    join_heads,
    library,
    linear,
    place_like,
    place_pictures,
    remember,
    rms_norm,
    split_heads,
    visible_with_next,
)
from profiling.models.blip2.functional import ASSUMED, VISION_MODULES, project, sizes, vision
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import Call, only, rms_norm_call

# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    """What follows from the tokens alone, and the token with which the decoder starts."""
    ids, mask = numpy.asarray(inputs["input_ids"]), numpy.asarray(inputs["attention_mask"])
    start = numpy.full(len(ids), config["text_config"]["decoder_start_token_id"])
    return {
        "ids": ids,  # [B, S]
        "real": mask.astype(bool),  # [B, S]: not padding
        "source": place_pictures(ids, config["image_token_index"]),  # [B * S]
        "start": start,  # [B]
        "history": start[:, None],  # [B, 1]: what a repetition penalty counts
    }


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    own, text = weights["language_model"], config["text_config"]
    x = fuse(given["ids"], pictures, given["source"], own["shared"]["weight"])
    states = encoder(x, given["real"], own["encoder"], text)
    first = empty_state(states, given["real"], own["decoder"], text, room)
    return step(given["start"], first, weights, config)


def encoder(x: Array, real: Array, weights: Weights, config: Config) -> Array:  # [B, S, D]
    order, blocks = numpy.arange(x.shape[1]), weights["block"]
    eps = config["layer_norm_epsilon"]
    buckets = bucket(order - order[:, None], config, both_ways=True)  # [S, S]
    bias = distance_bias(buckets, blocks, x)  # [1, H, S, S]
    for block in blocks:
        attention, feed = block["layer"]
        own, inner = attention["SelfAttention"], rms_norm(x, attention["layer_norm"], eps)
        x = x + read(inner, keys_values(inner, own, config), own, config, real[:, None, None], bias)
        x = x + feed_forward(rms_norm(x, feed["layer_norm"], eps), feed["DenseReluDense"], config)
    return rms_norm(x, weights["final_layer_norm"], eps)


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


def distance_bias(buckets: numpy.ndarray, blocks: Weights, like: Array) -> Array:
    """Biases [1, H, *buckets]; all layers take them from the table of the first."""
    table = blocks[0]["layer"][0]["SelfAttention"]["relative_attention_bias"]["weight"]
    rows = embed(place_like(buckets, like), table)  # [*buckets, H]
    return library(like).moveaxis(rows, -1, 0)[None]


# The decoder


def empty_state(
    states: Array, real: Array, weights: Weights, config: Config, room: int
) -> dict[str, Any]:
    """What decoding begins with: no keys and values of its own, and those of what was read."""
    xp, device, rows = library(states), device_of(states), states.shape[0]
    attentions = [block["layer"][1]["EncDecAttention"] for block in weights["block"]]
    cross = [keys_values(states, own, config) for own in attentions]
    key, _ = cross[0]
    shape = (rows, config["num_heads"], room, key.shape[-1])
    empty = xp.zeros(shape, dtype=key.dtype, device=device)
    buckets = bucket(-numpy.arange(room), config, both_ways=False)  # of keys so far back
    return {
        "caches": [(empty, empty)] * len(cross),
        "visible": xp.zeros((rows, room), dtype=xp.bool, device=device),
        "slot": xp.asarray(0, device=device),
        "places": xp.zeros((rows,), dtype=xp.int32, device=device),
        "cross": cross,
        "read": real,  # [B, S]
        "bias": distance_bias(buckets, weights["block"], states),  # [1, H, T]
    }


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    own, text, xp = weights["language_model"], config["text_config"], library(token)
    x = embed(token[:, None], own["shared"]["weight"])  # [B, 1, D]
    # Keys after the token's slot are hidden, whatever bias they are given.
    order = xp.arange(state["visible"].shape[1], device=device_of(token))
    back = xp.where(order > state["slot"], 0, state["slot"] - order)  # [T]
    bias = xp.take(state["bias"], back, axis=2)[:, :, None]  # [1, H, 1, T]
    x, caches = decoder(x, state, bias, own["decoder"], text)
    if text["scale_decoder_outputs"]:
        x = x * text["d_model"] ** -0.5
    return linear(x[:, 0], own["lm_head"]), advance(state, caches)


def decoder(
    x: Array, state: Mapping[str, Any], bias: Array, weights: Weights, config: Config
) -> tuple[Array, list[Any]]:
    """The state [B, 1, D] of one token after every layer, and the caches with its slot filled."""
    eps, kept = config["layer_norm_epsilon"], []
    visible, real = visible_with_next(state)[:, None, None], state["read"][:, None, None]
    layers = (block["layer"] for block in weights["block"])
    for layer, cache, known in zip(layers, state["caches"], state["cross"], strict=True):
        attention, crossing, feed = layer
        own, inner = attention["SelfAttention"], rms_norm(x, attention["layer_norm"], eps)
        cache = remember(keys_values(inner, own, config), cache, state["slot"])
        x = x + read(inner, cache, own, config, visible, bias)
        own, inner = crossing["EncDecAttention"], rms_norm(x, crossing["layer_norm"], eps)
        x = x + read(inner, known, own, config, real, None)
        x = x + feed_forward(rms_norm(x, feed["layer_norm"], eps), feed["DenseReluDense"], config)
        kept.append(cache)
    return rms_norm(x, weights["final_layer_norm"], eps), kept


FUNCTIONS = FunctionalFamily(
    assumed=ASSUMED,
    sizes=sizes,
    pictures=None,
    plan=plan,
    vision=vision,
    project=project,
    prefill=prefill,
    step=step,
    encoder_decoder=True,
)
generate = FUNCTIONS.generate


# What the library's modules compute, for verifying captured calls


def _attention(weights: Weights, settings: Any, arguments: Any) -> Any:
    x, states = arguments["hidden_states"], arguments.get("key_value_states")
    half, layer = "self" if states is None else "cross", settings.module["layer_idx"]
    caches = arguments.get("past_key_values")
    cache = (caches or {}).get(half, {}).get(layer)
    if half == "cross":
        known = cache or keys_values(states, weights, settings.config)
    else:
        known = remember(keys_values(x, weights, settings.config), cache, None)
    bias, mask = arguments.get("position_bias"), arguments.get("mask")
    if bias is None and "relative_attention_bias" in weights:
        bias = _bias(x, known[0].shape[2], weights, settings)
    # A mask of numbers adds the lowest one to what is hidden.
    visible = mask if mask is None or mask.dtype == library(x).bool else mask >= 0
    seen = read(x, known, weights, settings.config, visible, bias)
    output = (seen,) if half == "cross" else (seen, bias)
    return output if caches is None else {"output": output, "cache": {half: {layer: known}}}


def _bias(x: Array, count: int, weights: Weights, settings: Any) -> Array:
    """Of so many keys, the last of which are the queries' own."""
    both_ways, keys = not settings.module["is_decoder"], numpy.arange(count)
    buckets = bucket(keys - keys[count - x.shape[1] :, None], settings.config, both_ways=both_ways)
    return distance_bias(buckets, [{"layer": [{"SelfAttention": weights}]}], x)


def _feed(weights: Weights, settings: Any, arguments: Any) -> Array:
    x, config = only(arguments), settings.config
    inner = rms_norm(x, weights["layer_norm"], config["layer_norm_epsilon"])
    return x + feed_forward(inner, weights["DenseReluDense"], config)


MODULES: Mapping[str, Call] = {
    **VISION_MODULES,
    "T5Attention": _attention,
    "T5DenseGatedActDense": lambda w, s, a: feed_forward(only(a), w, s.config),
    "T5LayerFF": _feed,
    "T5LayerNorm": rms_norm_call,
}
