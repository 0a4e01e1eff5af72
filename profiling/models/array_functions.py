"""The layers that families share, as functions over NumPy, PyTorch and JAX arrays.

Arguments named `weights` are nested (`nested_weights`): a linear layer is {"weight": [out, in],
"bias": [out]}. Everything is written with the array API standard; where PyTorch has one kernel for
several steps, or JAX a better one, the function of that name calls it. Shapes: B rows of a batch,
S tokens of a prompt, T tokens that keys and values have room for, D width, H heads, d width of a
head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy

from profiling.errors import Unsupported

Array = Any
Weights = Any
Config = Mapping[str, Any]
Rotation = tuple[Array, Array]  # cosines and sines
KeysValues = tuple[Array, Array]  # [B, H, T, d] each
Cache = KeysValues | None  # None before anything is in it
Caches = Sequence[Cache] | None  # of the layers; None for a prompt

is_torch, is_jax = array_api_compat.is_torch_array, array_api_compat.is_jax_array
library = array_api_compat.array_namespace
# Added to the score of what may not be seen; in half precision, scores are in single precision.
_HIDDEN = -1e30


def widen(x: Array) -> Array:
    """The values in single precision, or in double precision if they are."""
    xp = library(x)
    return x if x.dtype == xp.float64 else xp.astype(x, xp.float32)


def place_like(values: numpy.ndarray, like: Array) -> Array:
    """What was computed on the host, as an array of the same library and on the same device."""
    return library(like).asarray(values, device=device_of(like))


def device_of(x: Array) -> Any:
    """Where an array is; None in JAX, which has no device while it compiles."""
    return None if is_jax(x) else array_api_compat.device(x)


# Linear layers and norms


def linear(x: Array, weights: Weights) -> Array:  # [..., in] -> [..., out]
    if is_torch(x):
        from torch.nn.functional import linear as fused

        return fused(x, weights["weight"], weights.get("bias"))
    xp, weight = library(x), weights["weight"]
    rows = xp.reshape(x, (-1, x.shape[-1])) @ weight.T
    y = xp.reshape(rows, (*x.shape[:-1], weight.shape[0]))
    return y + weights["bias"] if weights.get("bias") is not None else y


def embed(ids: Array, table: Array) -> Array:  # [...], [V, D] -> [..., D]
    xp = library(table)
    rows = xp.take(table, xp.reshape(ids, (-1,)), axis=0)
    return xp.reshape(rows, (*ids.shape, table.shape[1]))


def rms_norm(x: Array, weights: Weights, eps: float) -> Array:
    xp, wide, scale = library(x), widen(x), weights["weight"]
    scaled = wide / xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return scale * xp.astype(scaled, scale.dtype)


def layer_norm(x: Array, weights: Weights, eps: float) -> Array:
    """Without values where the layer has none."""
    scale, shift = weights.get("weight"), weights.get("bias")
    if is_torch(x):
        from torch.nn.functional import layer_norm as fused

        return fused(x, x.shape[-1:], scale, shift, eps)
    xp, wide = library(x), widen(x)
    centred = wide - xp.mean(wide, axis=-1, keepdims=True)
    y = centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    y = y if scale is None else y * widen(scale)
    return xp.astype(y if shift is None else y + widen(shift), x.dtype)


# Activations


def silu(x: Array) -> Array:
    if is_torch(x):
        from torch.nn.functional import silu as fused

        return fused(x)
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:
    # By the hyperbolic tangent, since the exponential of a large number overflows.
    return 0.5 * (library(x).tanh(0.5 * x) + 1)


def gelu(x: Array) -> Array:
    """x times the share of a normal distribution below x."""
    if is_torch(x):
        from torch.nn.functional import gelu as fused

        return fused(x)
    if is_jax(x):
        from jax.nn import gelu as exact

        return exact(x, approximate=False)
    # NumPy has no error function, so that of the standard library is called for every value.
    scaled = numpy.ravel(widen(x) * 2**-0.5)
    shares = numpy.fromiter(map(math.erf, scaled), scaled.dtype, scaled.size)
    return numpy.astype(0.5 * x * (1 + numpy.reshape(shares, x.shape)), x.dtype)


def gelu_by_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + library(x).tanh(inner))


def relu(x: Array) -> Array:
    xp = library(x)
    return xp.where(x > 0, x, xp.zeros_like(x))


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_by_tanh,
    "gelu_pytorch_tanh": gelu_by_tanh,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": relu,
    "relu2": lambda x: relu(x) * relu(x),
    "silu": silu,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a configuration names."""
    if name not in _ACTIVATIONS:
        raise Unsupported(f"the plain functions have no activation called {name}")
    return _ACTIVATIONS[name]


def mlp(x: Array, first: Weights, second: Weights, act: str) -> Array:
    return linear(activation(act)(linear(x, first)), second)


def gated_mlp(x: Array, weights: Weights, act: str) -> Array:
    gate = activation(act)(linear(x, weights["gate_proj"]))
    return linear(gate * linear(x, weights["up_proj"]), weights["down_proj"])


# Positions


def rotation(angles: Array, dtype: Any) -> Rotation:
    xp = library(angles)
    return xp.astype(xp.cos(angles), dtype), xp.astype(xp.sin(angles), dtype)


def rotate(x: Array, turn: Rotation) -> Array:
    """Rotate value i of the first half of a head with value i of the second half.

    `x` is [..., d], cosines and sines are [..., d / 2]. The dtype of the cosines is computed in.
    """
    xp, (cos, sin), half = library(x), turn, x.shape[-1] // 2
    wide = xp.astype(x, cos.dtype)
    first, second = wide[..., :half], wide[..., half:]
    turned = xp.concat((first * cos - second * sin, second * cos + first * sin), axis=-1)
    return xp.astype(turned, x.dtype)


def text_rotation(positions: Array, frequencies: Array, like: Array) -> Rotation:
    """Cosines and sines [B, 1, S, d / 2] of the positions [B, S], in the dtype of `like`."""
    xp, wide = library(like), widen(like).dtype
    angles = xp.astype(positions, wide)[..., None] * xp.astype(frequencies, wide)
    return rotation(angles[:, None], like.dtype)


# Attention


def split_heads(x: Array, heads: int) -> Array:  # [B, S, H * d] -> [B, H, S, d]
    xp = library(x)
    return xp.permute_dims(xp.reshape(x, (*x.shape[:2], heads, -1)), (0, 2, 1, 3))


def join_heads(x: Array) -> Array:  # [B, H, S, d] -> [B, S, H * d]
    xp, (rows, _, count, _) = library(x), x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (rows, count, -1))


def attend(
    query: Array,  # [B, H, S, d]
    key: Array,  # [B, h, T, d]; H / h heads of queries share one of keys
    value: Array,
    visible: Array | None = None,  # [B, 1, S, T]: which keys a query may see
    *,
    bias: Array | None = None,  # [1, H, S, T], added to the scores
    scale: float | None = None,  # d ** -0.5 if it is not given
) -> Array:
    """The values, weighted by the softmax of the scaled products of queries and keys."""
    if is_torch(query):
        return _attend_fused(query, key, value, visible, bias, scale)
    xp, (rows, heads, count, width) = library(query), query.shape
    grouped = xp.reshape(query, (rows, key.shape[1], -1, count, width))
    scores = widen(grouped @ xp.matrix_transpose(key[:, :, None]))
    scores = xp.reshape(scores, (rows, heads, count, -1)) * (scale or width**-0.5)
    if bias is not None:
        scores = scores + bias
    if visible is not None:
        scores = xp.where(visible, scores, xp.asarray(_HIDDEN, dtype=scores.dtype))
    raised = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    shares = xp.astype(raised / xp.sum(raised, axis=-1, keepdims=True), value.dtype)
    shares = xp.reshape(shares, (*grouped.shape[:-1], -1))
    return xp.reshape(shares @ value[:, :, None], query.shape)


def _attend_fused(
    query: Any, key: Any, value: Any, visible: Any, bias: Any, scale: float | None
) -> Any:
    from torch.nn.functional import scaled_dot_product_attention as fused

    mask = visible
    if bias is not None:
        mask = bias if visible is None else bias.where(visible, -math.inf)
        mask = mask.to(query.dtype)
    grouped = query.shape[1] != key.shape[1]
    return fused(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)


def causal(real: Array) -> Array:
    """Which keys each query of a prompt may see [B, 1, S, S]; `real` [B, S] is not padding."""
    xp = library(real)
    order = xp.arange(real.shape[1], device=device_of(real))
    return real[:, None, None] & (order <= order[:, None])


class Context(NamedTuple):
    """What is the same for every layer of a decoder."""

    visible: Array | None  # [B, 1, S, T]: which keys each token may see; None where all
    slot: Array | None = None  # the place of one token in caches; None where they grow
    turn: Rotation | None = None  # of the positions, where heads are rotated


# The cache of keys and values


def grow(x: Array, room: int) -> Array:  # [B, H, S, d] -> [B, H, room, d], zeros at the end
    xp, (rows, heads, count, width) = library(x), x.shape
    if room == count:
        return x
    shape, device = (rows, heads, room - count, width), device_of(x)
    return xp.concat((x, xp.zeros(shape, dtype=x.dtype, device=device)), axis=2)


def put(cache: Array, x: Array, slot: Array) -> Array:
    """The cache [B, H, T, d] with the keys or values [B, H, 1, d] of one token in its slot []."""
    if is_torch(cache):
        return cache.index_copy(2, slot[None], x)
    if is_jax(cache):
        from jax.lax import dynamic_update_slice_in_dim

        return dynamic_update_slice_in_dim(cache, x, slot, axis=2)
    changed = cache.copy()
    changed[:, :, int(slot)] = x[:, :, 0]
    return changed


def remember(fresh: KeysValues, cache: Cache, slot: Array | None) -> KeysValues:
    """All keys and values that a query may see: those of the prompt, or one token's in a cache.

    Without a slot, a cache has no room: it is made longer.
    """
    if cache is None:
        return fresh
    if slot is None:
        concat = library(fresh[0]).concat
        return concat((cache[0], fresh[0]), axis=2), concat((cache[1], fresh[1]), axis=2)
    return put(cache[0], fresh[0], slot), put(cache[1], fresh[1], slot)


def start_decoding(
    caches: Sequence[KeysValues], given: Mapping[str, Array], room: int
) -> dict[str, Any]:
    """What decoding begins with: caches with room, which slots are seen, and the next place."""
    real = given["real"]  # [B, S]
    xp, device = library(real), device_of(real)
    rows, count = real.shape
    unseen = xp.zeros((rows, room - count), dtype=xp.bool, device=device)
    return {
        "caches": [(grow(key, room), grow(value, room)) for key, value in caches],
        "visible": xp.concat((real, unseen), axis=1),  # [B, T]
        "slot": xp.asarray(count, device=device),
        "places": given["places"],  # [B]: the position of the next token
    }


def visible_with_next(state: Mapping[str, Any]) -> Array:  # [B, T]
    """Which slots the next token sees: those before it, and its own."""
    xp, visible = library(state["visible"]), state["visible"]
    order = xp.arange(visible.shape[1], device=device_of(visible))
    return visible | (order == state["slot"])


def next_context(state: Mapping[str, Any]) -> Context:
    return Context(visible_with_next(state)[:, None, None], state["slot"])


def advance(state: Mapping[str, Any], caches: Sequence[KeysValues]) -> dict[str, Any]:
    """The state after one more token."""
    moved = {"slot": state["slot"] + 1, "places": state["places"] + 1}
    return {**state, **moved, "caches": list(caches), "visible": visible_with_next(state)}


# Pictures in the prompt


def cut_patches(pixels: Array, side: int) -> Array:
    """Square patches [B, P, C * side * side] of pictures [B, C, height, width], row by row."""
    xp, (rows, channels, height, width) = library(pixels), pixels.shape
    cut = xp.reshape(pixels, (rows, channels, height // side, side, width // side, side))
    cut = xp.permute_dims(cut, (0, 2, 4, 1, 3, 5))
    return xp.reshape(cut, (rows, -1, channels * side * side))


def patch_embedding(patches: Array, weights: Weights) -> Array:
    """A convolution whose stride is its kernel's side, as the product that it equals."""
    kernel, xp = weights["weight"], library(patches)
    flat = {**weights, "weight": xp.reshape(kernel, (kernel.shape[0], -1))}
    return linear(xp.astype(patches, kernel.dtype), flat)


def picture_embedding(pixels: Array, weights: Weights, positions: Array, side: int) -> Array:
    """The class token and the patches of each picture, with their positions [B, 1 + P, D]."""
    xp = library(pixels)
    patches = patch_embedding(cut_patches(pixels, side), weights["patch_embedding"])  # [B, P, D]
    rows, _, width = patches.shape
    first = xp.astype(weights["class_embedding"], patches.dtype)
    joined = xp.concat((xp.broadcast_to(first, (rows, 1, width)), patches), axis=1)
    high, wide = (length // side for length in pixels.shape[-2:])
    return joined + xp.astype(resize_positions(positions, high, wide), joined.dtype)


def vision_mlp(x: Array, weights: Weights, settings: Config) -> Array:
    return mlp(x, weights["fc1"], weights["fc2"], settings["hidden_act"])


def vision_layer(
    x: Array, weights: Weights, attention: Callable[..., Array], settings: Config
) -> Array:  # [B, 1 + P, D]
    eps = settings["layer_norm_eps"]
    inner = layer_norm(x, weights["layer_norm1"], eps)
    x = x + attention(inner, weights["self_attn"], settings)
    inner = layer_norm(x, weights["layer_norm2"], eps)
    return x + vision_mlp(inner, weights["mlp"], settings)


def resize_positions(table: Array, rows: int, columns: int) -> Array:
    """Learned positions [1 + n * n, D] of a square of patches, for so many rows and columns.

    The class token's position comes first and stays; the others are interpolated bicubically.
    """
    xp, side = library(table), math.isqrt(table.shape[0] - 1)
    if rows == columns == side:
        return table
    down, across = (place_like(_bicubic(side, n), table) for n in (rows, columns))
    grid = xp.reshape(table[1:], (side, side, -1))
    down, across = (xp.astype(matrix, table.dtype) for matrix in (down, across))
    tall = xp.tensordot(down, grid, axes=((1,), (0,)))  # [rows, side, D]
    wide = xp.tensordot(across, tall, axes=((1,), (1,)))  # [columns, rows, D]
    flat = xp.reshape(xp.permute_dims(wide, (1, 0, 2)), (rows * columns, -1))
    return xp.concat((table[:1], flat), axis=0)


def _bicubic(old: int, new: int) -> numpy.ndarray:
    """The matrix [new, old] of bicubic interpolation (a = -0.75), pixels as areas."""
    matrix = numpy.zeros((new, old))
    centres = (numpy.arange(new) + 0.5) * old / new - 0.5
    for offset in range(-1, 3):
        taps = numpy.floor(centres) + offset
        share = _cubic(numpy.abs(centres - taps))
        inside = numpy.clip(taps, 0, old - 1).astype(int)
        numpy.add.at(matrix, (numpy.arange(new), inside), share)
    return matrix


def _cubic(distance: numpy.ndarray, a: float = -0.75) -> numpy.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return numpy.where(distance <= 1, near, far)


def place_pictures(ids: numpy.ndarray, image_token: int) -> numpy.ndarray:
    """Where each token's embedding is, [B * S]: its own, or after all of them a picture's."""
    flat = ids.reshape(-1)
    seen = flat == image_token
    return numpy.where(seen, flat.size + numpy.cumsum(seen) - 1, numpy.arange(flat.size))


def fuse(ids: Array, pictures: Array, source: Array, table: Array) -> Array:
    """Embeddings [B, S, D] of a prompt, those of pictures [V, D] at the places of their tokens."""
    xp, text = library(table), embed(ids, table)
    rows = xp.reshape(text, (-1, text.shape[-1]))
    both = xp.concat((rows, xp.astype(pictures, rows.dtype)), axis=0)
    return xp.reshape(xp.take(both, source, axis=0), text.shape)


def plan_prompt(inputs: Mapping[str, Any], image_token: int) -> dict[str, numpy.ndarray]:
    """What follows from the tokens alone: where each is, and where its embedding comes from."""
    ids, mask = numpy.asarray(inputs["input_ids"]), numpy.asarray(inputs["attention_mask"])
    real = mask.astype(bool)
    return {
        "ids": ids,  # [B, S]
        "real": real,  # [B, S]: not padding
        "source": place_pictures(ids, image_token),  # [B * S]
        "positions": numpy.where(real, numpy.cumsum(mask, axis=1) - 1, 0),  # [B, S]
        "places": mask.sum(axis=1),  # [B]: the position of the first new token
        "history": ids,  # [B, S]: what a repetition penalty counts
    }


# Decoders, as functions `decoder(x, positions, context, caches, weights, config)`


def read_prompt(
    given: Mapping[str, Array],
    pictures: Array,  # [V, D]
    decoder: Callable[..., tuple[Array, list[KeysValues]]],
    weights: Weights,  # of the decoder
    head: Weights,
    config: Config,
    room: int,
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] of the first new token, and the state for the next ones."""
    x = fuse(given["ids"], pictures, given["source"], weights["embed_tokens"]["weight"])
    context = Context(causal(given["real"]))
    x, caches = decoder(x, given["positions"], context, None, weights, config)
    return linear(x[:, -1], head), start_decoding(caches, given, room)


def read_token(
    token: Array,  # [B]
    positions: Array,  # [B, 1]
    state: Mapping[str, Any],
    decoder: Callable[..., tuple[Array, list[KeysValues]]],
    weights: Weights,
    head: Weights,
    config: Config,
) -> tuple[Array, dict[str, Any]]:
    """Logits [B, vocabulary] after one more token, and the state with it."""
    x = embed(token[:, None], weights["embed_tokens"]["weight"])  # [B, 1, D]
    x, caches = decoder(x, positions, next_context(state), state["caches"], weights, config)
    return linear(x[:, 0], head), advance(state, caches)


def run_layers(
    x: Array,  # [B, S, D]
    layers: Sequence[Weights],
    layer: Callable[..., tuple[Array, KeysValues]],
    context: Context,
    caches: Caches,
    config: Config,
) -> tuple[Array, list[KeysValues]]:
    """The states after every layer, and the keys and values of each."""
    kept = []
    for number, weights in enumerate(layers):
        cache = None if caches is None else caches[number]
        x, cache = layer(x, weights, context, cache, config)
        kept.append(cache)
    return x, kept


def at_positions(context: Context, positions: Array, weights: Weights, like: Array) -> Context:
    """The context with the rotation of the positions [B, S]."""
    return context._replace(turn=text_rotation(positions, weights["inv_freq"], like))


# The decoder that Llama and its successors have


def gated_decoder(
    x: Array, context: Context, caches: Caches, weights: Weights, config: Config
) -> tuple[Array, list[KeysValues]]:
    """Every layer, and a norm at the end: states [B, S, D], and the caches."""
    x, kept = run_layers(x, weights["layers"], gated_layer, context, caches, config)
    return rms_norm(x, weights["norm"], config["rms_norm_eps"]), kept


def gated_layer(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:
    """Attention and a gated MLP, an RMS norm before each."""
    eps = config["rms_norm_eps"]
    inner = rms_norm(x, weights["input_layernorm"], eps)
    seen, kept = grouped_attention(inner, weights["self_attn"], context, cache, config)
    x = x + seen
    inner = rms_norm(x, weights["post_attention_layernorm"], eps)
    return x + gated_mlp(inner, weights["mlp"], config["hidden_act"]), kept


def grouped_attention(
    x: Array, weights: Weights, context: Context, cache: Cache, config: Config
) -> tuple[Array, KeysValues]:
    """Rotary attention in which several heads of queries share one head of keys and values."""
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    assert context.turn is not None
    query = rotate(split_heads(linear(x, weights["q_proj"]), heads), context.turn)
    key = rotate(split_heads(linear(x, weights["k_proj"]), shared), context.turn)
    value = split_heads(linear(x, weights["v_proj"]), shared)
    known = remember((key, value), cache, context.slot)
    seen = attend(query, *known, context.visible)
    return linear(join_heads(seen), weights["o_proj"]), known
