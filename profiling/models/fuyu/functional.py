"""Fuyu as functions of its inputs, its weights and its configuration.

Read it from the top: each patch becomes a token by one linear layer, the tokens take their places
among those of the text, a Persimmon decoder (queries and keys are normed, half of a head is
rotated, the MLP squares what is positive) gives the next token. Weights are nested
(`nested_weights`), `config` is the configuration as a dict. Shapes: V patches of all pictures, B
rows, S tokens of a prompt, T tokens that fit, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Config,
    KeysValues,
    Rotation,
    Weights,
    advance,
    attend,
    causal,
    count_positions,
    embed,
    fuse,
    join_heads,
    layer_norm,
    library,
    linear,
    mlp,
    place_pictures,
    remember,
    rotate,
    start_decoding,
    text_rotation,
    visible_with_next,
)
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    COMMON,
    Call,
    cache_in,
    text_rotation_call,
    turn_in,
    visible_in,
    with_cache,
)

# What the functions take for granted, by the place in the configuration.
ASSUMED = {"text_config.rope_parameters.rope_type": ("default",)}


# The vision part


def sizes(inputs: Mapping[str, Any]) -> None:
    """Nothing: a patch is a token, wherever in a picture it was."""


def vision(pixels: Array, sizes: None, weights: Weights, config: Config) -> Array:
    """Visual tokens [V, D] of patches [pictures, patches, values] or [V, values]."""
    own, xp = weights["model"]["vision_embed_tokens"], library(pixels)
    rows = xp.reshape(pixels, (-1, pixels.shape[-1]))
    return linear(xp.astype(rows, own["weight"].dtype), own)


# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    """What follows from the tokens alone: where each is, and where its embedding comes from."""
    ids, mask = numpy.asarray(inputs["input_ids"]), numpy.asarray(inputs["attention_mask"])
    positions, after = count_positions(mask)
    return {
        "ids": ids,  # [B, S]
        "real": mask.astype(bool),  # [B, S]: not padding
        "source": place_pictures(ids, config["image_token_id"]),  # [B * S]
        "positions": positions,  # [B, S]
        "places": after,  # [B]: the position of the first new token
        "history": ids,  # [B, S]: what a repetition penalty counts
    }


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    own, text = weights["model"]["language_model"], config["text_config"]
    x = fuse(given["ids"], pictures, given["source"], own["embed_tokens"]["weight"])
    turn = text_rotation(given["positions"], own["rotary_emb"]["inv_freq"], x)
    x, caches = decoder(x, turn, causal(given["real"]), None, None, own, text)
    logits = linear(x[:, -1], weights["lm_head"])
    return logits, start_decoding(caches, given["real"], given["places"], room)


def decoder(
    x: Array,  # [B, S, D]
    turn: Rotation,
    visible: Array,  # [B, 1, S, T]
    caches: Sequence[KeysValues] | None,  # None for a prompt
    slot: Array | None,
    weights: Weights,
    config: Config,
) -> tuple[Array, list[KeysValues]]:
    kept = []
    for number, layer in enumerate(weights["layers"]):
        cache = None if caches is None else caches[number]
        x, cache = decoder_layer(x, layer, turn, visible, cache, slot, config)
        kept.append(cache)
    return layer_norm(x, weights["final_layernorm"], config["layer_norm_eps"]), kept


def decoder_layer(
    x: Array,  # [B, S, D]
    weights: Weights,
    turn: Rotation,
    visible: Array | None,
    cache: KeysValues | None,
    slot: Array | None,
    config: Config,
) -> tuple[Array, KeysValues]:
    eps, own = config["layer_norm_eps"], weights["self_attn"]
    inner = layer_norm(x, weights["input_layernorm"], eps)
    seen, cache = attention(inner, own, turn, visible, cache, slot, config)
    x = x + seen
    inner = layer_norm(x, weights["post_attention_layernorm"], eps)
    return x + decoder_mlp(inner, weights["mlp"], config), cache


def decoder_mlp(x: Array, weights: Weights, config: Config) -> Array:
    return mlp(x, weights["dense_h_to_4h"], weights["dense_4h_to_h"], config["hidden_act"])


def attention(
    x: Array,  # [B, S, D]
    weights: Weights,
    turn: Rotation,
    visible: Array | None,
    cache: KeysValues | None,
    slot: Array | None,
    config: Config,
) -> tuple[Array, KeysValues]:
    xp, heads, eps = library(x), config["num_attention_heads"], config["layer_norm_eps"]
    # One layer makes queries, keys and values, which lie side by side for each head.
    joined = xp.reshape(linear(x, weights["query_key_value"]), (*x.shape[:2], heads, 3, -1))
    query, key, value = (joined[..., part, :] for part in range(3))  # [B, S, H, d] each
    if config["qk_layernorm"]:
        query = layer_norm(query, weights["q_layernorm"], eps)
        key = layer_norm(key, weights["k_layernorm"], eps)
    query, key, value = (xp.permute_dims(part, (0, 2, 1, 3)) for part in (query, key, value))
    query, key = rotate_beginning(query, turn), rotate_beginning(key, turn)
    key, value = remember((key, value), cache, slot)
    seen = attend(query, key, value, visible)
    return linear(join_heads(seen), weights["dense"]), (key, value)


def rotate_beginning(x: Array, turn: Rotation) -> Array:  # [B, H, S, d]
    """Rotate as much of each head as there are frequencies for; the rest stays."""
    count = 2 * turn[0].shape[-1]
    return library(x).concat((rotate(x[..., :count], turn), x[..., count:]), axis=-1)


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    own, text = weights["model"]["language_model"], config["text_config"]
    x = embed(token[:, None], own["embed_tokens"]["weight"])  # [B, 1, D]
    turn = text_rotation(state["places"][:, None], own["rotary_emb"]["inv_freq"], x)
    visible = visible_with_next(state)[:, None, None]  # [B, 1, 1, T]
    x, caches = decoder(x, turn, visible, state["caches"], state["slot"], own, text)
    return linear(x[:, 0], weights["lm_head"]), advance(state, caches)


FUNCTIONS = FunctionalFamily(
    assumed=ASSUMED,
    sizes=sizes,
    pictures=None,
    plan=plan,
    vision=vision,
    project=None,
    prefill=prefill,
    step=step,
)
generate = FUNCTIONS.generate


# What the library's modules compute, for verifying captured calls


def _attention(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, number = arguments["hidden_states"], settings.module["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache, turn = cache_in(arguments, number), turn_in(arguments, 1)
    seen, kept = attention(x, weights, turn, visible, cache, None, settings.config)
    return with_cache((seen,), number, kept)


def _layer(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, number = arguments["hidden_states"], settings.parts["self_attn"]["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache, turn = cache_in(arguments, number), turn_in(arguments, 1)
    x, kept = decoder_layer(x, weights, turn, visible, cache, None, settings.config)
    return with_cache(x, number, kept)


MODULES: Mapping[str, Call] = {
    **COMMON,
    "PersimmonAttention": _attention,
    "PersimmonDecoderLayer": _layer,
    "PersimmonMLP": lambda w, s, a: decoder_mlp(a["hidden_states"], w, s.config),
    "PersimmonRotaryEmbedding": text_rotation_call,
}
