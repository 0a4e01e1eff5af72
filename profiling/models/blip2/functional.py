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
    join_heads,
    layer_norm,
    library,
    linear,
    picture_embedding,
    split_heads,
    vision_layer,
    vision_mlp,
)
from profiling.models.module_calls import (
    COMMON,
    Call,
    only,
)

# What the functions take for granted, by the place in the configuration.
ASSUMED = {"qformer_config.use_qformer_text_input": (False, None)}


def sizes(inputs: Mapping[str, Any]) -> None:
    """Nothing: the pictures of a batch have one size, which is in the shape of the pixels."""


# The vision transformer


def vision(pixels: Array, sizes: None, weights: Weights, config: Config) -> Array:
    """States [B, 1 + P, D] of the patches of pictures [B, 3, height, width]."""
    return vision_transformer(pixels, weights["vision_model"], config["vision_config"])


def vision_transformer(pixels: Array, weights: Weights, settings: Config) -> Array:
    x = layers(embedding(pixels, weights["embeddings"], settings), weights["encoder"], settings)
    return layer_norm(x, weights["post_layernorm"], settings["layer_norm_eps"])


def embedding(pixels: Array, weights: Weights, settings: Config) -> Array:
    table = weights["position_embedding"][0]
    return picture_embedding(pixels, weights, table, settings["patch_size"])


def layers(x: Array, weights: Weights, settings: Config) -> Array:
    for layer in weights["layers"]:
        x = vision_layer(x, layer, vision_attention, settings)
    return x


def vision_attention(x: Array, weights: Weights, settings: Config) -> Array:
    heads, xp = settings["num_attention_heads"], library(x)
    # One layer makes queries, keys and values of all heads, one after another.
    joined = xp.reshape(linear(x, weights["qkv"]), (*x.shape[:2], 3, heads, -1))
    query, key, value = (xp.permute_dims(joined[:, :, part], (0, 2, 1, 3)) for part in range(3))
    return linear(join_heads(attend(query, key, value)), weights["projection"])


# The Q-Former


def project(states: Array, weights: Weights, config: Config) -> Array:
    """Visual tokens [V, text width] from the states [B, 1 + P, D] of pictures."""
    x = qformer(weights["query_tokens"], states, weights["qformer"], config["qformer_config"])
    xp = library(states)
    tokens = linear(xp.astype(x, states.dtype), weights["language_projection"])
    return xp.reshape(tokens, (-1, tokens.shape[-1]))


def qformer(queries: Array, states: Array, weights: Weights, settings: Config) -> Array:
    """What each query [1, Q, D] found in the states of each picture: [B, Q, D]."""
    xp, first = library(states), weights["layernorm"]
    # The Q-Former may be in single precision where the rest is in half precision.
    queries, states = (xp.astype(each, first["weight"].dtype) for each in (queries, states))
    queries = xp.broadcast_to(queries, (states.shape[0], *queries.shape[1:]))
    x = layer_norm(queries, first, settings["layer_norm_eps"])
    return qformer_layers(x, states, weights["encoder"], settings)


def qformer_layers(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    for layer in weights["layer"]:
        x = qformer_layer(x, states, layer, settings)
    return x


def qformer_layer(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    """Queries [B, Q, D] attend to each other and, in some layers, to the states of the picture."""
    x = qformer_attention(x, x, weights["attention"], settings)
    if "crossattention" in weights:
        x = qformer_attention(x, states, weights["crossattention"], settings)
    inner = intermediate(x, weights["intermediate_query"], settings)
    return add_and_norm(inner, x, weights["output_query"], settings)


def intermediate(x: Array, weights: Weights, settings: Config) -> Array:
    return activation(settings["hidden_act"])(linear(x, weights["dense"]))


def qformer_attention(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    seen = multi_head(x, states, weights["attention"], settings)
    return add_and_norm(seen, x, weights["output"], settings)


def multi_head(x: Array, states: Array, weights: Weights, settings: Config) -> Array:
    heads = settings["num_attention_heads"]
    query = split_heads(linear(x, weights["query"]), heads)
    key, value = (split_heads(linear(states, weights[name]), heads) for name in ("key", "value"))
    return join_heads(attend(query, key, value))


def add_and_norm(x: Array, before: Array, weights: Weights, settings: Config) -> Array:
    added = linear(x, weights["dense"]) + before
    return layer_norm(added, weights["LayerNorm"], settings["layer_norm_eps"])


# What the library's modules compute, for verifying captured calls


def _states(arguments: Any) -> Array:
    """What is attended to: the picture where it is given, otherwise the queries themselves."""
    states = arguments.get("encoder_hidden_states")
    return arguments["hidden_states"] if states is None else states


def _add_and_norm(weights: Weights, settings: Any, arguments: Any) -> Array:
    x, before = arguments["hidden_states"], arguments["input_tensor"]
    return add_and_norm(x, before, weights, settings.config)


def _vision(weights: Weights, settings: Any, arguments: Any) -> dict[str, Array]:
    states = vision_transformer(arguments["pixel_values"], weights, settings.config)
    eps = settings.config["layer_norm_eps"]
    pooled = layer_norm(states[:, 0], weights["post_layernorm"], eps)
    return {"last_hidden_state": states, "pooler_output": pooled}


def _qformer(weights: Weights, settings: Any, arguments: Any) -> dict[str, Array]:
    queries, states = arguments["query_embeds"], arguments["encoder_hidden_states"]
    found = qformer(queries, states, weights, settings.config)
    return {"last_hidden_state": found, "pooler_output": found[:, 0]}


VISION_MODULES: Mapping[str, Call] = {
    **COMMON,
    "Blip2Attention": lambda w, s, a: (vision_attention(a["hidden_states"], w, s.config),),
    "Blip2Encoder": lambda w, s, a: layers(a["inputs_embeds"], w, s.config),
    "Blip2EncoderLayer": lambda w, s, a: vision_layer(
        a["hidden_states"], w, vision_attention, s.config
    ),
    "Blip2MLP": lambda w, s, a: vision_mlp(a["hidden_states"], w, s.config),
    "Blip2QFormerAttention": lambda w, s, a: qformer_attention(
        a["hidden_states"], _states(a), w, s.config
    ),
    "Blip2QFormerEncoder": lambda w, s, a: qformer_layers(
        a["hidden_states"], a["encoder_hidden_states"], w, s.config
    ),
    "Blip2QFormerIntermediate": lambda w, s, a: intermediate(only(a), w, s.config),
    "Blip2QFormerLayer": lambda w, s, a: qformer_layer(
        a["hidden_states"], a["encoder_hidden_states"], w, s.config
    ),
    "Blip2QFormerModel": _qformer,
    "Blip2QFormerMultiHeadAttention": lambda w, s, a: (
        multi_head(a["hidden_states"], _states(a), w, s.config),
    ),
    **dict.fromkeys(("Blip2QFormerOutput", "Blip2QFormerSelfOutput"), _add_and_norm),
    "Blip2VisionEmbeddings": lambda w, s, a: embedding(a["pixel_values"], w, s.config),
    "Blip2VisionModel": _vision,
}
