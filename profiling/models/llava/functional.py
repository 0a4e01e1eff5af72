"""LLaVA-1.5 as functions of its inputs, its weights and its configuration.

Read it from the top: a picture becomes square patches with a class token, a CLIP tower of which an
inner layer is read, two linear layers that make visual tokens, a Llama decoder. Weights are nested
(`nested_weights`), `config` is the configuration as a dict. Shapes: B rows, P patches of a
picture, V visual tokens of all pictures, S tokens of a prompt, T tokens that fit, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Caches,
    Config,
    Context,
    KeysValues,
    Weights,
    at_positions,
    attend,
    gated_decoder,
    join_heads,
    layer_norm,
    library,
    linear,
    mlp,
    picture_embedding,
    plan_prompt,
    read_prompt,
    read_token,
    split_heads,
    vision_layer,
    vision_mlp,
)
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    COMMON,
    GATED_DECODER,
    Call,
    decoder_call,
    only,
)

# What the functions take for granted, by the place in the configuration.
ASSUMED = {
    "text_config.rope_parameters.rope_type": ("default",),
    "vision_feature_select_strategy": ("default", "full"),
}


# The vision part


def sizes(inputs: Mapping[str, Any]) -> None:
    """Nothing: the pictures of a batch have one size, which is in the shape of the pixels."""


def vision(pixels: Array, sizes: None, weights: Weights, config: Config) -> Array:
    """The states that the projector reads [B, P, D], from pixels [B, 3, height, width]."""
    tower, settings, xp = weights["model"]["vision_tower"], config["vision_config"], library(pixels)
    # Some versions of the library have the tower one level deeper.
    tower, wanted = tower.get("vision_model", tower), wanted_states(config)
    x = embedding(pixels, tower["embeddings"], settings)  # [B, 1 + P, D]
    # There is one state more than layers: what goes into the first layer is a state too.
    x = layer_norm(x, tower["pre_layrnorm"], settings["layer_norm_eps"])
    states = layers(x, tower["encoder"], max(wanted), settings)
    first = 1 if config["vision_feature_select_strategy"] == "default" else 0
    return xp.concat([states[number][:, first:] for number in wanted], axis=-1)


def wanted_states(config: Config) -> list[int]:
    """The states that are read, counted from the first."""
    asked, count = config["vision_feature_layer"], config["vision_config"]["num_hidden_layers"]
    listed = [asked] if isinstance(asked, int) else list(asked)
    return [number if number >= 0 else count + 1 + number for number in listed]


def embedding(pixels: Array, weights: Weights, settings: Config) -> Array:
    table = weights["position_embedding"]["weight"]
    return picture_embedding(pixels, weights, table, settings["patch_size"])


def layers(x: Array, weights: Weights, count: int, settings: Config) -> list[Array]:
    """The states before the first layer and after each of so many."""
    states = [x]
    for layer in weights["layers"][:count]:
        states.append(vision_layer(states[-1], layer, vision_attention, settings))
    return states


def vision_attention(x: Array, weights: Weights, settings: Config) -> Array:
    query, key, value = (
        split_heads(linear(x, weights[name]), settings["num_attention_heads"])
        for name in ("q_proj", "k_proj", "v_proj")
    )
    return linear(join_heads(attend(query, key, value)), weights["out_proj"])


def project(x: Array, weights: Weights, config: Config) -> Array:  # [B, P, D] -> [V, text width]
    tokens = projector(x, weights["model"]["multi_modal_projector"], config)
    return library(x).reshape(tokens, (-1, tokens.shape[-1]))


def projector(x: Array, weights: Weights, config: Config) -> Array:
    return mlp(x, weights["linear_1"], weights["linear_2"], config["projector_hidden_act"])


# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    return plan_prompt(inputs, config["image_token_index"])


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
    return gated_decoder(x, context, caches, weights, config)


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
    project=project,
    prefill=prefill,
    step=step,
)
generate = FUNCTIONS.generate


# What the library's modules compute, for verifying captured calls


def _layers(weights: Weights, settings: Any, arguments: Any) -> Array:
    count = settings.config["num_hidden_layers"]
    return layers(arguments["inputs_embeds"], weights, count, settings.config)[-1]


def _tower(weights: Weights, settings: Any, arguments: Any) -> dict[str, Array]:
    own, eps = settings.config, settings.config["layer_norm_eps"]
    weights = weights.get("vision_model", weights)
    x = embedding(arguments["pixel_values"], weights["embeddings"], own)
    x = layer_norm(x, weights["pre_layrnorm"], eps)
    states = layers(x, weights["encoder"], own["num_hidden_layers"], own)[-1]
    pooled = layer_norm(states[:, 0], weights["post_layernorm"], eps)
    return {"last_hidden_state": states, "pooler_output": pooled}


MODULES: Mapping[str, Call] = {
    **COMMON,
    **GATED_DECODER,
    "CLIPAttention": lambda w, s, a: (vision_attention(a["hidden_states"], w, s.config),),
    "CLIPEncoder": _layers,
    "CLIPEncoderLayer": lambda w, s, a: vision_layer(
        a["hidden_states"], w, vision_attention, s.config
    ),
    "CLIPMLP": lambda w, s, a: vision_mlp(a["hidden_states"], w, s.config),
    "CLIPVisionEmbeddings": lambda w, s, a: embedding(a["pixel_values"], w, s.config),
    "CLIPVisionModel": _tower,
    "LlamaModel": decoder_call(decoder),
    "LlavaMultiModalProjector": lambda w, s, a: projector(only(a), w, s.config),
}
