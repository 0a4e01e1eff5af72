"""BLIP-2 with OPT as functions of its inputs, its weights and its configuration.

The vision side is that of `blip2/functional.py`. Here its visual tokens take their places among
those of the text, and an OPT decoder (learned positions, plain attention, an MLP) gives the next
token. Shapes: B rows, S tokens of a prompt, T tokens that fit, V visual tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Config,
    KeysValues,
    Weights,
    advance,
    attend,
    causal,
    count_positions,
    embed,
    fuse,
    join_heads,
    layer_norm,
    linear,
    mlp,
    place_pictures,
    remember,
    split_heads,
    start_decoding,
    visible_with_next,
)
from profiling.models.blip2.functional import ASSUMED, VISION_MODULES, project, sizes, vision
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import Call, cache_in, visible_in, with_cache

EPS = 1e-5
# The table of positions has two rows before that of the first token.
FIRST_POSITION = 2


# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    """What follows from the tokens alone: where each is, and where its embedding comes from."""
    ids, mask = numpy.asarray(inputs["input_ids"]), numpy.asarray(inputs["attention_mask"])
    positions, after = count_positions(mask)
    return {
        "ids": ids,  # [B, S]
        "real": mask.astype(bool),  # [B, S]: not padding
        "source": place_pictures(ids, config["image_token_index"]),  # [B * S]
        "positions": positions,  # [B, S]
        "places": after,  # [B]: the position of the first new token
        "history": ids,  # [B, S]: what a repetition penalty counts
    }


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    own, text = weights["language_model"]["model"]["decoder"], config["text_config"]
    x = fuse(given["ids"], pictures, given["source"], own["embed_tokens"]["weight"])
    visible = causal(given["real"])
    x, caches = decoder(x, given["positions"], visible, None, None, own, text)
    logits = linear(x[:, -1], weights["language_model"]["lm_head"])
    return logits, start_decoding(caches, given["real"], given["places"], room)


def decoder(
    x: Array,  # [B, S, D]
    positions: Array,  # [B, S]
    visible: Array,  # [B, 1, S, T]
    caches: Sequence[KeysValues] | None,  # None for a prompt
    slot: Array | None,
    weights: Weights,
    config: Config,
) -> tuple[Array, list[KeysValues]]:
    # Some sizes have embeddings that are narrower than the decoder.
    x = linear(x, weights["project_in"]) if "project_in" in weights else x
    x = x + embed(positions + FIRST_POSITION, weights["embed_positions"]["weight"])
    kept = []
    for number, layer in enumerate(weights["layers"]):
        cache = None if caches is None else caches[number]
        x, cache = decoder_layer(x, layer, visible, cache, slot, config)
        kept.append(cache)
    if "final_layer_norm" in weights:
        x = layer_norm(x, weights["final_layer_norm"], EPS)
    return (linear(x, weights["project_out"]) if "project_out" in weights else x), kept


def decoder_layer(
    x: Array,  # [B, S, D]
    weights: Weights,
    visible: Array | None,
    cache: KeysValues | None,
    slot: Array | None,
    config: Config,
) -> tuple[Array, KeysValues]:
    """Attention and an MLP, each with a norm before it (one size of OPT has it after)."""
    before, act = config["do_layer_norm_before"], config["activation_function"]
    inner = norm(x, weights, "self_attn_layer_norm") if before else x
    seen, cache = attention(inner, weights["self_attn"], visible, cache, slot, config)
    x = x + seen if before else norm(x + seen, weights, "self_attn_layer_norm")
    inner = norm(x, weights, "final_layer_norm") if before else x
    x = x + mlp(inner, weights["fc1"], weights["fc2"], act)
    return (x if before else norm(x, weights, "final_layer_norm")), cache


def norm(x: Array, weights: Weights, name: str) -> Array:
    """A layer norm, which in some checkpoints has no values."""
    return layer_norm(x, weights.get(name, {}), EPS)


def attention(
    x: Array,  # [B, S, D]
    weights: Weights,
    visible: Array | None,
    cache: KeysValues | None,
    slot: Array | None,
    config: Config,
) -> tuple[Array, KeysValues]:
    query, key, value = (
        split_heads(linear(x, weights[name]), config["num_attention_heads"])
        for name in ("q_proj", "k_proj", "v_proj")
    )
    key, value = remember((key, value), cache, slot)
    return linear(join_heads(attend(query, key, value, visible)), weights["out_proj"]), (key, value)


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    own, text = weights["language_model"]["model"]["decoder"], config["text_config"]
    x = embed(token[:, None], own["embed_tokens"]["weight"])  # [B, 1, D]
    positions = state["places"][:, None]
    visible = visible_with_next(state)[:, None, None]  # [B, 1, 1, T]
    x, caches = decoder(x, positions, visible, state["caches"], state["slot"], own, text)
    return linear(x[:, 0], weights["language_model"]["lm_head"]), advance(state, caches)


FUNCTIONS = FunctionalFamily(
    assumed=ASSUMED,
    sizes=sizes,
    pictures=None,
    plan=plan,
    vision=vision,
    project=project,
    prefill=prefill,
    step=step,
)
generate = FUNCTIONS.generate


# What the library's modules compute, for verifying captured calls


def _attention(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, number = arguments["hidden_states"], settings.module["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache = cache_in(arguments, number)
    seen, kept = attention(x, weights, visible, cache, None, settings.config)
    return with_cache((seen,), number, kept)


def _layer(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    x, number = arguments["hidden_states"], settings.parts["self_attn"]["layer_idx"]
    visible = visible_in(arguments.get("attention_mask"), x)
    cache = cache_in(arguments, number)
    x, kept = decoder_layer(x, weights, visible, cache, None, settings.config)
    return with_cache(x, number, kept)


MODULES: Mapping[str, Call] = {
    **VISION_MODULES,
    "OPTAttention": _attention,
    "OPTDecoderLayer": _layer,
    "OPTLearnedPositionalEmbedding": lambda w, s, a: embed(
        a["position_ids"] + FIRST_POSITION, w["weight"]
    ),
}
