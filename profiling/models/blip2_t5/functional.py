"""BLIP-2 with flan-T5 as functions of its inputs, its weights and its configuration.

The vision side is that of `blip2/functional.py`. Here its visual tokens take their places among
those of the text, a T5 encoder reads them, and a T5 decoder attends to what it read. Distances
between tokens have a learned bias, and products of queries and keys are not scaled. Shapes: B rows,
S tokens of a prompt, T new tokens that fit, V visual tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Config,
    Context,
    Weights,
    advance,
    device_of,
    embed,
    fuse,
    library,
    linear,
    next_context,
    place_pictures,
    remember,
)
from profiling.models.blip2.functional import ASSUMED, VISION_MODULES, project, sizes, vision
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    Call,
    embeddings_in,
    only,
    real_in,
    rms_norm_call,
    visible_among,
    with_cache,
)
from profiling.models.t5_functions import (
    bucket,
    cross_caches,
    cross_layer,
    decoder,
    distance_bias,
    encoder,
    feed_forward,
    feed_layer,
    first_attention,
    keys_values,
    layer_norm_of,
    read,
    self_layer,
)

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


# New tokens


def empty_state(
    states: Array, real: Array, weights: Weights, config: Config, room: int
) -> dict[str, Any]:
    """What decoding begins with: no keys and values of its own, and those of what was read."""
    xp, device, rows = library(states), device_of(states), states.shape[0]
    cross = cross_caches(states, weights, config)
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
        "bias": distance_bias(buckets, first_attention(weights), states),  # [1, H, T]
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
    context, cross = next_context(state), state["cross"]
    real, caches = state["read"][:, None, None], state["caches"]
    x, caches = decoder(x, context, bias, caches, cross, real, own["decoder"], text)
    if text["scale_decoder_outputs"]:
        x = x * text["d_model"] ** -0.5
    return linear(x[:, 0], own["lm_head"]), advance(state, caches)


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


def _visible(mask: Array | None) -> Array | None:
    """A mask of numbers adds the lowest one to what is hidden."""
    return mask if mask is None or mask.dtype == library(mask).bool else mask >= 0


def _bias(given: Mapping[str, Any], count: int, weights: Weights, own: Any, config: Any) -> Any:
    """Of so many keys, the last of which are the queries' own; given, or from the table."""
    bias, x, keys = given.get("position_bias"), given["hidden_states"], numpy.arange(count)
    if bias is not None:
        return bias
    if "relative_attention_bias" not in weights:
        shape = (1, config["num_heads"], x.shape[1], count)
        return library(x).zeros(shape, dtype=x.dtype, device=device_of(x))
    apart = keys - keys[count - x.shape[1] :, None]
    return distance_bias(bucket(apart, config, both_ways=not own["is_decoder"]), weights, x)


def _told(output: Any, changed: Any, arguments: Any) -> Any:
    caches = arguments.get("past_key_values")
    return output if caches is None else with_cache(output, {**caches, **changed})


def _attend(weights: Weights, own: Any, config: Config, given: Mapping[str, Any]) -> Any:
    """Attention to the states themselves or to others: states, biases, caches."""
    x, states = given["hidden_states"], given.get("key_value_states")
    half, layer = "self" if states is None else "cross", own["layer_idx"]
    cache = (given.get("past_key_values") or {}).get(half, {}).get(layer)
    if states is None:
        known = remember(keys_values(x, weights, config), cache, None)
    else:
        known = cache or keys_values(states, weights, config)
    bias = _bias(given, known[0].shape[2], weights, own, config)
    seen = read(x, known, weights, config, _visible(given.get("mask")), bias)
    return seen, bias, {half: {layer: known}}


def _attention(weights: Weights, settings: Any, arguments: Any) -> Any:
    own, given = settings.module, arguments.named()
    seen, bias, caches = _attend(weights, own, settings.config, given)
    return _told((seen, bias), caches, arguments)


def _attention_layer(name: str) -> Call:
    def call(weights: Weights, settings: Any, arguments: Any) -> Any:
        x, config = arguments["hidden_states"], settings.config
        inner, mask = layer_norm_of(x, weights, config), arguments.get("attention_mask")
        given = {**arguments.named(), "hidden_states": inner, "mask": mask}
        seen, bias, caches = _attend(weights[name], settings.parts[name], config, given)
        return _told((x + seen, bias), caches, arguments)

    return call


def _block(weights: Weights, settings: Any, arguments: Any) -> Any:
    given, config, layers = arguments.named(), settings.config, weights["layer"]
    x, own = given["hidden_states"], settings.parts["layer.0.SelfAttention"]
    held, number = given.get("past_key_values") or {}, own["layer_idx"]
    cache = held.get("self", {}).get(number)
    count = x.shape[1] + (0 if cache is None else cache[0].shape[2])
    bias = _bias(given, count, layers[0]["SelfAttention"], own, config)
    context = Context(_visible(given.get("attention_mask")))
    x, kept = self_layer(x, layers[0], context, cache, bias, config)
    caches, states = {"self": {number: kept}}, given.get("encoder_hidden_states")
    if states is not None:
        known = held.get("cross", {}).get(number)
        known = known or keys_values(states, layers[1]["EncDecAttention"], config)
        real, caches["cross"] = _visible(given.get("encoder_attention_mask")), {number: known}
        x = cross_layer(x, layers[1], known, real, config)
    return _told((feed_layer(x, layers[-1], config), bias), caches, arguments)


def _stack(weights: Weights, settings: Any, arguments: Any) -> Any:
    x, config = embeddings_in(arguments, weights["embed_tokens"]), settings.config
    mask = arguments.get("attention_mask")
    if not config["is_decoder"]:
        real = real_in(mask, x, x.shape[1])
        return {"last_hidden_state": encoder(x, real, weights, config)}
    held, states = arguments.get("past_key_values") or {}, arguments["encoder_hidden_states"]
    layers = range(len(weights["block"]))
    caches, known = ([held.get(half, {}).get(n) for n in layers] for half in ("self", "cross"))
    cross = cross_caches(states, weights, config) if None in known else known
    cached = 0 if caches[0] is None else caches[0][0].shape[2]
    own = settings.parts["block.0.layer.0.SelfAttention"]
    given = {"hidden_states": x}
    bias = _bias(given, cached + x.shape[1], first_attention(weights), own, config)
    context = Context(visible_among(mask, x, cached))
    real = real_in(arguments.get("encoder_attention_mask"), states, states.shape[1])
    x, kept = decoder(x, context, bias, caches, cross, real[:, None, None], weights, config)
    after = {"self": dict(enumerate(kept)), "cross": dict(enumerate(cross))}
    return with_cache({"last_hidden_state": x}, after)


MODULES: Mapping[str, Call] = {
    **VISION_MODULES,
    "T5Attention": _attention,
    "T5Block": _block,
    "T5DenseGatedActDense": lambda w, s, a: feed_forward(only(a), w, s.config),
    "T5LayerCrossAttention": _attention_layer("EncDecAttention"),
    "T5LayerFF": lambda w, s, a: feed_layer(only(a), w, s.config),
    "T5LayerNorm": rms_norm_call,
    "T5LayerSelfAttention": _attention_layer("SelfAttention"),
    "T5Stack": _stack,
}
