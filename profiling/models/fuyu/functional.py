"""Fuyu as functions of its inputs, its weights and its configuration.

Read it from the top: each patch becomes a token by one linear layer, the tokens take their places
among those of the text, a Persimmon decoder (queries and keys are normed, half of a head is
rotated, the MLP squares what is positive) gives the next token. Weights are nested
(`nested_weights`), `config` is the configuration as a dict. Shapes: V patches of all pictures, B
rows, S tokens of a prompt, T tokens that fit, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Cache,
    Caches,
    Config,
    Context,
    KeysValues,
    Rotation,
    Weights,
    at_positions,
    attend,
    join_heads,
    layer_norm,
    library,
    linear,
    mlp,
    plan_prompt,
    read_prompt,
    read_token,
    remember,
    rotate,
    run_layers,
)
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    COMMON,
    Call,
    attention_call,
    decoder_call,
    layer_call,
    text_rotation_call,
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
    return plan_prompt(inputs, config["image_token_id"])


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    own, head = weights["model"]["language_model"], weights["lm_head"]
    return read_prompt(given, pictures, decoder, own, head, config["text_config"], room)


def decoder(
    x: Array, positions: Array, context: Context, caches: Caches, weights: Weights, config: Config
) -> tuple[Array, list[KeysValues]]:
    """States [B, S, D] of tokens at positions [B, S], and the keys and values of every layer."""
    context = at_positions(context, positions, weights["rotary_emb"], x)
    x, kept = run_layers(x, weights["layers"], decoder_layer, context, caches, config)
    return layer_norm(x, weights["final_layernorm"], config["layer_norm_eps"]), kept


def decoder_layer(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:  # [B, S, D]
    eps = config["layer_norm_eps"]
    inner = layer_norm(x, weights["input_layernorm"], eps)
    seen, kept = attention(inner, weights["self_attn"], context, cache, config)
    x = x + seen
    inner = layer_norm(x, weights["post_attention_layernorm"], eps)
    return x + decoder_mlp(inner, weights["mlp"], config), kept


def decoder_mlp(x: Array, weights: Weights, config: Config) -> Array:
    return mlp(x, weights["dense_h_to_4h"], weights["dense_4h_to_h"], config["hidden_act"])


def attention(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:  # [B, S, D]
    xp, heads, eps = library(x), config["num_attention_heads"], config["layer_norm_eps"]
    assert context.turn is not None
    # One layer makes queries, keys and values, which lie side by side for each head.
    joined = xp.reshape(linear(x, weights["query_key_value"]), (*x.shape[:2], heads, 3, -1))
    query, key, value = (joined[..., part, :] for part in range(3))  # [B, S, H, d] each
    if config["qk_layernorm"]:
        query = layer_norm(query, weights["q_layernorm"], eps)
        key = layer_norm(key, weights["k_layernorm"], eps)
    query, key, value = (xp.permute_dims(part, (0, 2, 1, 3)) for part in (query, key, value))
    query, key = rotate_beginning(query, context.turn), rotate_beginning(key, context.turn)
    known = remember((key, value), cache, context.slot)
    seen = attend(query, *known, context.visible)
    return linear(join_heads(seen), weights["dense"]), known


def rotate_beginning(x: Array, turn: Rotation) -> Array:  # [B, H, S, d]
    """Rotate as much of each head as there are frequencies for; the rest stays."""
    count = 2 * turn[0].shape[-1]
    return library(x).concat((rotate(x[..., :count], turn), x[..., count:]), axis=-1)


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    own, head = weights["model"]["language_model"], weights["lm_head"]
    positions = state["places"][:, None]
    return read_token(token, positions, state, decoder, own, head, config["text_config"])


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


MODULES: Mapping[str, Call] = {
    **COMMON,
    "PersimmonAttention": attention_call(attention),
    "PersimmonDecoderLayer": layer_call(decoder_layer),
    "PersimmonModel": decoder_call(decoder),
    "PersimmonMLP": lambda w, s, a: decoder_mlp(a["hidden_states"], w, s.config),
    "PersimmonRotaryEmbedding": text_rotation_call,
}
