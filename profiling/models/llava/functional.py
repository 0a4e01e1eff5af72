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
    Config,
    Weights,
    advance,
    attend,
    causal,
    count_positions,
    cut_patches,
    embed,
    fuse,
    gated_decoder,
    join_heads,
    layer_norm,
    library,
    linear,
    mlp,
    patch_embedding,
    place_pictures,
    resize_positions,
    split_heads,
    start_decoding,
    text_rotation,
    visible_with_next,
)
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import COMMON, GATED_DECODER, Call, only

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
    tower, eps = tower.get("vision_model", tower), settings["layer_norm_eps"]
    x = picture_embedding(pixels, tower["embeddings"], settings)  # [B, 1 + P, D]
    # There is one state more than layers: what goes into the first layer is a state too.
    states = [layer_norm(x, tower["pre_layrnorm"], eps)]
    layers, wanted = tower["encoder"]["layers"], wanted_states(config)
    for layer in layers[: max(wanted)]:
        states.append(vision_layer(states[-1], layer, settings))
    first = 1 if config["vision_feature_select_strategy"] == "default" else 0
    return xp.concat([states[number][:, first:] for number in wanted], axis=-1)


def wanted_states(config: Config) -> list[int]:
    """The states that are read, counted from the first."""
    asked, count = config["vision_feature_layer"], config["vision_config"]["num_hidden_layers"]
    listed = [asked] if isinstance(asked, int) else list(asked)
    return [number if number >= 0 else count + 1 + number for number in listed]


def picture_embedding(pixels: Array, weights: Weights, settings: Config) -> Array:
    """The class token and the patches, each with its position [B, 1 + P, D]."""
    xp, side = library(pixels), settings["patch_size"]
    patches = patch_embedding(cut_patches(pixels, side), weights["patch_embedding"])  # [B, P, D]
    rows, _, width = patches.shape
    first = xp.broadcast_to(weights["class_embedding"], (rows, 1, width))
    high, wide = (length // side for length in pixels.shape[-2:])
    table = resize_positions(weights["position_embedding"]["weight"], high, wide)
    return xp.concat((first, patches), axis=1) + table


def vision_layer(x: Array, weights: Weights, settings: Config) -> Array:  # [B, 1 + P, D]
    eps = settings["layer_norm_eps"]
    inner = layer_norm(x, weights["layer_norm1"], eps)
    x = x + vision_attention(inner, weights["self_attn"], settings)
    inner = layer_norm(x, weights["layer_norm2"], eps)
    return x + vision_mlp(inner, weights["mlp"], settings)


def vision_attention(x: Array, weights: Weights, settings: Config) -> Array:
    query, key, value = (
        split_heads(linear(x, weights[name]), settings["num_attention_heads"])
        for name in ("q_proj", "k_proj", "v_proj")
    )
    return linear(join_heads(attend(query, key, value)), weights["out_proj"])


def vision_mlp(x: Array, weights: Weights, settings: Config) -> Array:
    return mlp(x, weights["fc1"], weights["fc2"], settings["hidden_act"])


def project(x: Array, weights: Weights, config: Config) -> Array:  # [B, P, D] -> [V, text width]
    tokens = projector(x, weights["model"]["multi_modal_projector"], config)
    return library(x).reshape(tokens, (-1, tokens.shape[-1]))


def projector(x: Array, weights: Weights, config: Config) -> Array:
    return mlp(x, weights["linear_1"], weights["linear_2"], config["projector_hidden_act"])


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
    decoder, text = weights["model"]["language_model"], config["text_config"]
    x = fuse(given["ids"], pictures, given["source"], decoder["embed_tokens"]["weight"])
    turn = text_rotation(given["positions"], decoder["rotary_emb"]["inv_freq"], x)
    x, caches = gated_decoder(x, turn, causal(given["real"]), None, None, decoder, text)
    logits = linear(x[:, -1], weights["lm_head"])
    return logits, start_decoding(caches, given["real"], given["places"], room)


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    decoder, text = weights["model"]["language_model"], config["text_config"]
    x = embed(token[:, None], decoder["embed_tokens"]["weight"])  # [B, 1, D]
    turn = text_rotation(state["places"][:, None], decoder["rotary_emb"]["inv_freq"], x)
    visible = visible_with_next(state)[:, None, None]  # [B, 1, 1, T]
    x, caches = gated_decoder(x, turn, visible, state["caches"], state["slot"], decoder, text)
    return linear(x[:, 0], weights["lm_head"]), advance(state, caches)


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
MODULES: Mapping[str, Call] = {
    **COMMON,
    **GATED_DECODER,
    "CLIPAttention": lambda w, s, a: (vision_attention(a["hidden_states"], w, s.config),),
    "CLIPEncoderLayer": lambda w, s, a: vision_layer(a["hidden_states"], w, s.config),
    "CLIPMLP": lambda w, s, a: vision_mlp(a["hidden_states"], w, s.config),
    "CLIPVisionEmbeddings": lambda w, s, a: picture_embedding(a["pixel_values"], w, s.config),
    "LlavaMultiModalProjector": lambda w, s, a: projector(only(a), w, s.config),
}
