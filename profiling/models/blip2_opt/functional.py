"""BLIP-2 with OPT as functions of its inputs, its weights and its configuration.

The vision side is that of `blip2/functional.py`. Here its visual tokens take their places among
those of the text, and an OPT decoder (learned positions, plain attention, an MLP) gives the next
token. Shapes: B rows, S tokens of a prompt, T tokens that fit, V visual tokens, D width.
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
    Weights,
    attend,
    embed,
    join_heads,
    layer_norm,
    linear,
    mlp,
    plan_prompt,
    read_prompt,
    read_token,
    remember,
    run_layers,
    split_heads,
)
from profiling.models.blip2.functional import ASSUMED, VISION_MODULES, project, sizes, vision
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    Call,
    attention_call,
    decoder_call,
    layer_call,
)

EPS = 1e-5
# The table of positions has two rows before that of the first token.
FIRST_POSITION = 2


# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    return plan_prompt(inputs, config["image_token_index"])


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    text = weights["language_model"]
    own, head = text["model"]["decoder"], text["lm_head"]
    return read_prompt(given, pictures, decoder, own, head, config["text_config"], room)


def decoder(
    x: Array, positions: Array, context: Context, caches: Caches, weights: Weights, config: Config
) -> tuple[Array, list[KeysValues]]:
    """States [B, S, D] of tokens at positions [B, S], and the keys and values of every layer."""
    # Some sizes have embeddings that are narrower than the decoder.
    x = linear(x, weights["project_in"]) if "project_in" in weights else x
    x = x + embed(positions + FIRST_POSITION, weights["embed_positions"]["weight"])
    x, kept = run_layers(x, weights["layers"], decoder_layer, context, caches, config)
    if "final_layer_norm" in weights:
        x = layer_norm(x, weights["final_layer_norm"], EPS)
    return (linear(x, weights["project_out"]) if "project_out" in weights else x), kept


def decoder_layer(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:
    """Attention and an MLP, each with a norm before it (one size of OPT has it after)."""
    before, act = config["do_layer_norm_before"], config["activation_function"]
    inner = norm(x, weights, "self_attn_layer_norm") if before else x
    seen, kept = attention(inner, weights["self_attn"], context, cache, config)
    x = x + seen if before else norm(x + seen, weights, "self_attn_layer_norm")
    inner = norm(x, weights, "final_layer_norm") if before else x
    x = x + mlp(inner, weights["fc1"], weights["fc2"], act)
    return (x if before else norm(x, weights, "final_layer_norm")), kept


def norm(x: Array, weights: Weights, name: str) -> Array:
    """A layer norm, which in some checkpoints has no values."""
    return layer_norm(x, weights.get(name, {}), EPS)


def attention(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:  # [B, S, D]
    query, key, value = (
        split_heads(linear(x, weights[name]), config["num_attention_heads"])
        for name in ("q_proj", "k_proj", "v_proj")
    )
    known = remember((key, value), cache, context.slot)
    return linear(join_heads(attend(query, *known, context.visible)), weights["out_proj"]), known


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    text, positions = weights["language_model"], state["places"][:, None]
    own, head = text["model"]["decoder"], text["lm_head"]
    return read_token(token, positions, state, decoder, own, head, config["text_config"])


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


def _logits(weights: Weights, settings: Any, arguments: Any) -> dict[str, Any]:
    found = decoder_call(decoder)(weights["model"]["decoder"], settings, arguments)
    asked = arguments.get("logits_to_keep") or 0
    logits = linear(found["output"]["last_hidden_state"][:, -asked:], weights["lm_head"])
    return {**found, "output": {"logits": logits}}


MODULES: Mapping[str, Call] = {
    **VISION_MODULES,
    "OPTAttention": attention_call(attention),
    "OPTDecoder": decoder_call(decoder),
    "OPTDecoderLayer": layer_call(decoder_layer),
    "OPTForCausalLM": _logits,
    "OPTLearnedPositionalEmbedding": lambda w, s, a: embed(
        a["position_ids"] + FIRST_POSITION, w["weight"]
    ),
}
