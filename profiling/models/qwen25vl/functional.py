"""Qwen2.5-VL as functions of its inputs, its weights and its configuration.

One source for NumPy, PyTorch and JAX, also under `jax.jit`. Read it from the top: pixels become
patches, windows of patches attend to themselves, four patches become one visual token; visual
tokens take their places among the embeddings of the text; the decoder gives the logits of the next
token and keeps keys and values. What depends on the sizes of pictures and on the tokens alone is
worked out in NumPy: it is constant under `jit`.

Weights are nested (`nested_weights`), `config` is the configuration as a dict. Shapes: N patches of
all pictures, V visual tokens, B rows, S tokens of a prompt, T tokens that fit, D width, H heads, d
width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy

from profiling.models.array_functions import (
    Array,
    Caches,
    Config,
    Context,
    KeysValues,
    Rotation,
    Weights,
    attend,
    gated_decoder,
    gated_mlp,
    gelu,
    join_heads,
    library,
    linear,
    patch_embedding,
    place_like,
    plan_prompt,
    read_prompt,
    read_token,
    rms_norm,
    rotate,
    rotation,
    widen,
)
from profiling.models.functional_family import FunctionalFamily
from profiling.models.module_calls import (
    COMMON,
    GATED_DECODER,
    Call,
    decoder_call,
    doubled,
    gated_mlp_call,
    turn_in,
)

Grid = tuple[int, int, int]  # frames, rows and columns of a picture's patches
VISION_EPS = 1e-6

# What the functions take for granted, by the place in the configuration.
ASSUMED = {
    "text_config.use_sliding_window": (False, None),
    "text_config.rope_parameters.rope_type": ("default",),
    "vision_config.rope_parameters.rope_type": ("axial",),
}


# The vision part


def sizes(inputs: Mapping[str, Any]) -> tuple[Grid, ...]:
    """What has to be known of the pictures before anything is computed: their grids."""
    grids = numpy.asarray(inputs["image_grid_thw"]).tolist()
    return tuple((frames, rows, columns) for frames, rows, columns in grids)


def pictures(grids: tuple[Grid, ...]) -> list[tuple[slice, tuple[Grid, ...]]]:
    """The patches of each picture among those of all, and its grid: it may be seen alone."""
    ends = numpy.cumsum([frames * rows * columns for frames, rows, columns in grids]).tolist()
    return [
        (slice(start, end), (grid,))
        for start, end, grid in zip([0, *ends], ends, grids, strict=False)
    ]


def vision(pixels: Array, grids: tuple[Grid, ...], weights: Weights, config: Config) -> Array:
    """Patches [N, D] in the order in which they came, from their pixels [N, C * frames * p * p]."""
    tower, settings, xp = weights["model"]["visual"], config["vision_config"], library(pixels)
    order, places, windows, pictures = lay_out(grids, settings)
    x = patch_embedding(pixels, tower["patch_embed"]["proj"])  # [N, D]
    # Patches of one window follow one another from here on.
    x = xp.take(x, place_like(order, x), axis=0)
    cells = place_like(places[order], x)
    turn = patch_rotation(cells, tower["rotary_pos_emb"]["inv_freq"], x)
    for number, block in enumerate(tower["blocks"]):
        whole = number in settings["fullatt_block_indexes"]
        x = vision_block(x, block, turn, pictures if whole else windows, settings)
    return xp.take(x, place_like(numpy.argsort(order), x), axis=0)


def lay_out(
    grids: Sequence[Grid], settings: Config
) -> tuple[numpy.ndarray, numpy.ndarray, list[int], list[int]]:
    """The order of patches by window [N], row and column of each [N, 2], and two lists of lengths.

    Patches come in squares of `merge` by `merge`, which later become one visual token. A window has
    `side` by `side` squares; those at the right and lower border have what is left. The lengths are
    those of the windows and those of the frames of pictures.
    """
    merge = settings["spatial_merge_size"]
    side = settings["window_size"] // (settings["patch_size"] * merge)
    places, windows, count = [], [], 0
    for frames, rows, columns in grids:
        ranges = map(numpy.arange, (rows // merge, columns // merge, merge, merge))
        row, column, down, right = numpy.meshgrid(*ranges, indexing="ij")
        place = numpy.stack((row * merge + down, column * merge + right), axis=-1)
        high, across = -(-(rows // merge) // side), -(-(columns // merge) // side)
        window = ((row // side) * across + column // side).reshape(-1)
        for _ in range(frames):
            places.append(place.reshape(-1, 2))
            windows.append(window + count)
            count += high * across
    number = numpy.concatenate(windows)
    lengths = numpy.bincount(number).tolist()
    whole = [rows * columns for frames, rows, columns in grids for _ in range(frames)]
    return numpy.argsort(number, kind="stable"), numpy.concatenate(places), lengths, whole


def patch_rotation(cells: Array, frequencies: Array, like: Array) -> Rotation:
    """Cosines and sines [N, 1, d / 2]: half of the angles from the row, half from the column."""
    xp, wide = library(like), widen(like).dtype
    angles = xp.astype(cells, wide)[..., None] * xp.astype(frequencies, wide)  # [N, 2, d / 4]
    return rotation(xp.reshape(angles, (cells.shape[0], 1, -1)), wide)


def vision_block(
    x: Array, weights: Weights, turn: Rotation, lengths: Sequence[int], settings: Config
) -> Array:  # [N, D]
    inner = rms_norm(x, weights["norm1"], VISION_EPS)
    x = x + vision_attention(inner, weights["attn"], turn, lengths, settings)
    inner = rms_norm(x, weights["norm2"], VISION_EPS)
    return x + gated_mlp(inner, weights["mlp"], settings["hidden_act"])


def vision_attention(
    x: Array, weights: Weights, turn: Rotation, lengths: Sequence[int], settings: Config
) -> Array:  # [N, D]
    """Each stretch of so many patches attends to itself; equal ones are computed as a batch."""
    xp, heads = library(x), settings["num_heads"]
    joined = xp.reshape(linear(x, weights["qkv"]), (x.shape[0], 3, heads, -1))  # [N, 3, H, d]
    query, key, value = rotate(joined[:, 0], turn), rotate(joined[:, 1], turn), joined[:, 2]
    seen = []
    for start, stop, length in stretches(lengths):
        parts = (
            xp.reshape(part[start:stop], (-1, length, heads, part.shape[-1]))
            for part in (query, key, value)
        )
        batch = (xp.permute_dims(part, (0, 2, 1, 3)) for part in parts)  # [windows, H, length, d]
        seen.append(xp.reshape(join_heads(attend(*batch)), (stop - start, -1)))
    return linear(xp.concat(seen, axis=0), weights["proj"])


def stretches(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Where each run of equal lengths starts and stops, and the length."""
    start = 0
    for length, alike in groupby(lengths):
        stop = start + length * len(list(alike))
        yield start, stop, length
        start = stop


def project(x: Array, weights: Weights, config: Config) -> Array:  # [N, D] -> [V, text width]
    settings = config["vision_config"]
    return merger(x, weights["model"]["visual"]["merger"], settings["spatial_merge_size"])


def merger(x: Array, weights: Weights, merge: int) -> Array:
    """Squares of `merge` by `merge` patches become visual tokens."""
    joined = rms_norm(x, weights["ln_q"], VISION_EPS)
    joined = library(x).reshape(joined, (-1, merge**2 * x.shape[-1]))
    # The activation between the two layers has no weights, hence 0 and 2.
    return linear(gelu(linear(joined, weights["mlp"][0])), weights["mlp"][2])


# The prompt


def plan(inputs: Mapping[str, Any], config: Config) -> dict[str, numpy.ndarray]:
    """What follows from the tokens alone: where each is, and where its embedding comes from."""
    found = plan_prompt(inputs, config["image_token_id"])
    grids = sizes(inputs)
    # Of three axes [3, B, S], since patches have rows and columns.
    positions, after = positions_of(found["ids"], found["real"], grids, config)
    return {**found, "positions": positions, "places": after}


def positions_of(
    ids: numpy.ndarray, real: numpy.ndarray, grids: Sequence[Grid], config: Config
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Frame, row and column of each token [3, B, S], and the position that comes next [B].

    A token of text has one number for all three. A picture takes as many numbers as its longer
    side has visual tokens, wherever in it they are.
    """
    positions, after = numpy.zeros((3, *ids.shape), numpy.int64), []
    merge, waiting = config["vision_config"]["spatial_merge_size"], iter(grids)
    for row, own in enumerate(real):
        found: list[numpy.ndarray] = []
        tokens, here = ids[row, own], 0
        while (done := sum(part.shape[1] for part in found)) < len(tokens):
            if tokens[done] == config["image_token_id"]:
                frames, high, wide = next(waiting)
                cells = numpy.indices((frames, high // merge, wide // merge))
                found.append(cells.reshape(3, -1) + here)
                here += max(high, wide) // merge
            else:
                rest = tokens[done:] == config["image_token_id"]
                count = int(rest.argmax()) if rest.any() else len(rest)
                found.append(numpy.tile(numpy.arange(count) + here, (3, 1)))
                here += count
        positions[:, row, own] = numpy.concatenate(found, axis=1)
        after.append(here)
    return positions, numpy.asarray(after)


def token_rotation(positions: Array, frequencies: Array, config: Config, like: Array) -> Rotation:
    """Cosines and sines [B, 1, S, d / 2]; sections of frequencies take frame, row or column."""
    xp, wide = library(like), widen(like).dtype
    sections = config["rope_parameters"]["mrope_section"]
    axes = numpy.repeat(numpy.arange(len(sections)) % 3, sections)  # [d / 2]
    own = xp.take(positions, place_like(axes, like), axis=0)  # [d / 2, B, S]
    own = xp.permute_dims(own, (1, 2, 0))[:, None]  # [B, 1, S, d / 2]
    return rotation(xp.astype(own, wide) * xp.astype(frequencies, wide), like.dtype)


def prefill(
    given: Mapping[str, Array], pictures: Array, weights: Weights, config: Config, room: int
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    own, head = weights["model"]["language_model"], weights["lm_head"]
    return read_prompt(given, pictures, decoder, own, head, config["text_config"], room)


def decoder(
    x: Array, positions: Array, context: Context, caches: Caches, weights: Weights, config: Config
) -> tuple[Array, list[KeysValues]]:
    """States [B, S, D] of tokens at positions [3, B, S], and the keys and values of every layer."""
    turn = token_rotation(positions, weights["rotary_emb"]["inv_freq"], config, x)
    return gated_decoder(x, context._replace(turn=turn), caches, weights, config)


# One more token


def step(
    token: Array, state: Mapping[str, Any], weights: Weights, config: Config
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token [B]."""
    own, head = weights["model"]["language_model"], weights["lm_head"]
    places = state["places"][None, :, None]
    positions = library(token).broadcast_to(places, (3, token.shape[0], 1))
    return read_token(token, positions, state, decoder, own, head, config["text_config"])


FUNCTIONS = FunctionalFamily(
    assumed=ASSUMED,
    sizes=sizes,
    pictures=pictures,
    plan=plan,
    vision=vision,
    project=project,
    prefill=prefill,
    step=step,
)
generate = FUNCTIONS.generate


# What the library's modules compute, for verifying captured calls


def _stretch_lengths(arguments: Any) -> list[int]:
    return numpy.diff(numpy.asarray(arguments["cu_seqlens"])).tolist()  # type: ignore[no-any-return]


def _tower(weights: Weights, settings: Any, arguments: Any) -> dict[str, Array]:
    whole, config = {"model": {"visual": weights}}, {"vision_config": settings.config}
    grids = sizes({"image_grid_thw": arguments["grid_thw"]})
    seen = vision(arguments["hidden_states"], grids, whole, config)
    # The library gives the states as they are inside of the tower: window by window.
    order = place_like(lay_out(grids, settings.config)[0], seen)
    states = library(seen).take(seen, order, axis=0)
    return {"last_hidden_state": states, "pooler_output": project(seen, whole, config)}


MODULES: Mapping[str, Call] = {
    **COMMON,
    **GATED_DECODER,
    "Qwen2_5_VisionPatchEmbed": lambda w, s, a: patch_embedding(a["hidden_states"], w["proj"]),
    "Qwen2_5_VisionTransformerPretrainedModel": _tower,
    "Qwen2_5_VLMLP": gated_mlp_call,
    "Qwen2_5_VLPatchMerger": lambda w, s, a: merger(a["x"], w, s.config["spatial_merge_size"]),
    "Qwen2_5_VLRotaryEmbedding": lambda w, s, a: doubled(
        token_rotation(a["position_ids"][-3:], w["inv_freq"], s.config, a["x"]), 1
    ),
    "Qwen2_5_VLVisionAttention": lambda w, s, a: vision_attention(
        a["hidden_states"], w, turn_in(a, 1), _stretch_lengths(a), s.config
    ),
    "Qwen2_5_VLVisionBlock": lambda w, s, a: vision_block(
        a["hidden_states"], w, turn_in(a, 1), _stretch_lengths(a), s.config
    ),
    "Qwen2_5_VLTextModel": decoder_call(decoder, axes=3),
    "Qwen2_5_VLVisionRotaryEmbedding": lambda w, s, a: doubled(
        patch_rotation(a["position_ids"], w["inv_freq"], a["x"]), 1
    ),
}
