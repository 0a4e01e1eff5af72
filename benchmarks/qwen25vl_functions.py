"""Functions for the modules of Qwen2.5-VL, one a class, into which errors are planted.

Written for PyTorch, as someone would who ports the model module by module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Turns = tuple[Tensor, Tensor]  # cosines and sines, each twice over: [..., d]


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear(x: Tensor, weights: Any) -> Tensor:
    return functional.linear(x, weights["weight"], weights.get("bias"))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    scaled = wide(x) * torch.rsqrt(wide(x).square().mean(-1, keepdim=True) + eps)
    return weight * scaled.to(x.dtype)


def gated(x: Tensor, weights: Any, activation: Callable[[Tensor], Tensor]) -> Tensor:
    gate = activation(linear(x, weights["gate_proj"]))
    return linear(gate * linear(x, weights["up_proj"]), weights["down_proj"])


def rotate(x: Tensor, turns: Turns) -> Tensor:  # pairs (i, i + d/2)
    first, second = x.chunk(2, -1)
    return x * turns[0] + torch.cat((-second, first), -1) * turns[1]


# One function a class.


def norm(w: Any, settings: Any, arguments: Any) -> Tensor:
    return rms_norm(arguments["hidden_states"], w["weight"], settings.module["variance_epsilon"])


def mlp(w: Any, settings: Any, arguments: Any) -> Tensor:
    (x,) = arguments.named().values()
    return gated(x, w, functional.silu)


def patch_embed(w: Any, settings: Any, arguments: Any) -> Tensor:
    kernel = w["proj"]["weight"]
    return functional.linear(arguments["hidden_states"].to(kernel.dtype), kernel.flatten(1))


def merger(w: Any, settings: Any, arguments: Any) -> Tensor:
    x = rms_norm(arguments["x"], w["ln_q"]["weight"], settings.parts["ln_q"]["variance_epsilon"])
    joined = x.reshape(-1, settings.module["hidden_size"])
    return linear(functional.gelu(linear(joined, w["mlp"][0])), w["mlp"][2])


def vision_rotary(w: Any, settings: Any, arguments: Any) -> Turns:
    places = arguments["position_ids"]  # [N, 2]
    angles = (places[..., None] * wide(w["inv_freq"])).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def vision_attention(w: Any, settings: Any, arguments: Any) -> Tensor:
    return attend_in_stretches(
        arguments["hidden_states"],
        w,
        arguments["position_embeddings"],
        arguments["cu_seqlens"].diff().tolist(),
        settings.module["num_heads"],
    )


def attend_in_stretches(
    x: Tensor, w: Any, turns: Turns, lengths: Sequence[int], heads: int
) -> Tensor:
    query, key, value = linear(x, w["qkv"]).unflatten(-1, (3, heads, -1)).unbind(1)
    cos, sin = (wide(part).unsqueeze(1) for part in turns)
    query, key = (rotate(wide(part), (cos, sin)).to(x.dtype) for part in (query, key))
    split = [part.transpose(0, 1).split(list(lengths), 1) for part in (query, key, value)]
    seen = [
        functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        for q, k, v in zip(*split, strict=True)
    ]
    return linear(torch.cat(seen, 1).transpose(0, 1).flatten(1), w["proj"])


def vision_block(w: Any, settings: Any, arguments: Any) -> Tensor:
    return see(
        arguments["hidden_states"],
        w,
        arguments["position_embeddings"],
        arguments["cu_seqlens"].diff().tolist(),
        settings,
        "",
    )


def see(
    x: Tensor, w: Any, turns: Turns, lengths: Sequence[int], settings: Any, path: str
) -> Tensor:
    parts, heads = settings.parts, settings.parts[f"{path}attn"]["num_heads"]
    inner = rms_norm(x, w["norm1"]["weight"], parts[f"{path}norm1"]["variance_epsilon"])
    x = x + attend_in_stretches(inner, w["attn"], turns, lengths, heads)
    inner = rms_norm(x, w["norm2"]["weight"], parts[f"{path}norm2"]["variance_epsilon"])
    return x + gated(inner, w["mlp"], functional.silu)


def windows_of(grids: Tensor, merge: int, side: int) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Row and column of each patch, the order by windows, their lengths, and the pictures'."""
    places, numbers, pictures, count = [], [], [], 0
    for frames, rows, columns in grids.tolist():
        ranges = (rows // merge, columns // merge, merge, merge)
        row, column, down, right = torch.meshgrid(*map(torch.arange, ranges), indexing="ij")
        place = torch.stack((row * merge + down, column * merge + right), -1).reshape(-1, 2)
        across, high = -(-(columns // merge) // side), -(-(rows // merge) // side)
        for _ in range(frames):
            places.append(place)
            numbers.append((row // side * across + column // side).flatten() + count)
            pictures.append(rows * columns)
            count += across * high
    number = torch.cat(numbers)
    return torch.cat(places), number.argsort(stable=True), number.bincount().tolist(), pictures


def tower(
    w: Any,
    settings: Any,
    arguments: Any,
    *,
    is_whole: Callable[[int, Any], bool],
    count: int | None,
) -> dict[str, Tensor]:
    own = settings.module
    merge = own["spatial_merge_size"]
    side = own["window_size"] // (own["patch_size"] * merge)
    places, order, windows, pictures = windows_of(arguments["grid_thw"], merge, side)
    kernel = w["patch_embed"]["proj"]["weight"]
    x = functional.linear(arguments["hidden_states"].to(kernel.dtype), kernel.flatten(1))[order]
    frequencies = wide(w["rotary_pos_emb"]["inv_freq"])
    angles = (places[order][..., None] * frequencies).flatten(1).repeat(1, 2)
    turns = (angles.cos(), angles.sin())
    for number, block in enumerate(w["blocks"][:count]):
        lengths = pictures if is_whole(number, own["fullatt_block_indexes"]) else windows
        x = see(x, block, turns, [n for n in lengths if n], settings, f"blocks.{number}.")
    eps = settings.parts["merger.ln_q"]["variance_epsilon"]
    normed = rms_norm(x, w["merger"]["ln_q"]["weight"], eps)
    joined = normed.reshape(-1, merge * merge * x.shape[-1])
    seen = linear(functional.gelu(linear(joined, w["merger"]["mlp"][0])), w["merger"]["mlp"][2])
    back = order[:: merge * merge].div(merge * merge, rounding_mode="floor").argsort()
    return {"last_hidden_state": x, "pooler_output": seen[back]}


def text_rotary(w: Any, settings: Any, arguments: Any) -> Turns:
    return turn_text(w, settings.module["mrope_section"], arguments["position_ids"], arguments["x"])


def turn_text(w: Any, sections: Sequence[int], places: Tensor, x: Tensor) -> Turns:
    angles = places.expand(3, -1, -1)[..., None] * wide(w["inv_freq"])  # [3, B, S, d / 2]
    taken = [part[i % 3] for i, part in enumerate(angles.split(list(sections), -1))]
    turned = torch.cat(taken, -1).repeat(1, 1, 2)
    return turned.cos().to(x.dtype), turned.sin().to(x.dtype)


def attention(w: Any, settings: Any, arguments: Any) -> dict[str, Any]:
    own = settings.module
    seen, kept = attend(
        arguments["hidden_states"],
        w,
        arguments["position_embeddings"],
        arguments.get("attention_mask"),
        (arguments.get("past_key_values") or {}).get(own["layer_idx"]),
        own["head_dim"],
    )
    return {"output": (seen,), "cache": {own["layer_idx"]: kept}}


def attend(
    x: Tensor, w: Any, turns: Turns, mask: Tensor | None, cache: Any, width: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    query, key, value = (
        linear(x, w[name]).unflatten(-1, (-1, width)).transpose(1, 2)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    turned = (turns[0].unsqueeze(1), turns[1].unsqueeze(1))
    query, key = rotate(query, turned), rotate(key, turned)
    if cache is not None:
        key, value = torch.cat((cache[0], key), 2), torch.cat((cache[1], value), 2)
    seen = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and x.shape[1] > 1,
        enable_gqa=True,
    )
    return linear(seen.transpose(1, 2).flatten(2), w["o_proj"]), (key, value)


def decoder_layer(w: Any, settings: Any, arguments: Any) -> dict[str, Any]:
    x, parts = arguments["hidden_states"], settings.parts
    eps = parts["input_layernorm"]["variance_epsilon"]
    layer = parts["self_attn"]["layer_idx"]
    seen, kept = attend(
        rms_norm(x, w["input_layernorm"]["weight"], eps),
        w["self_attn"],
        arguments["position_embeddings"],
        arguments.get("attention_mask"),
        (arguments.get("past_key_values") or {}).get(layer),
        parts["self_attn"]["head_dim"],
    )
    x = x + seen
    inner = rms_norm(x, w["post_attention_layernorm"]["weight"], eps)
    return {"output": x + gated(inner, w["mlp"], functional.silu), "cache": {layer: kept}}


def is_listed(number: int, whole: Any) -> bool:
    return number in whole


MODULES: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "Linear": lambda w, settings, arguments: linear(arguments["input"], w),
    "Embedding": lambda w, settings, arguments: w["weight"][arguments["input"]],
    "Qwen2_5_VLRMSNorm": norm,
    "Qwen2_5_VLMLP": mlp,
    "Qwen2MLP": mlp,
    "Qwen2_5_VisionPatchEmbed": patch_embed,
    "Qwen2_5_VLPatchMerger": merger,
    "Qwen2_5_VLVisionRotaryEmbedding": vision_rotary,
    "Qwen2_5_VLVisionAttention": vision_attention,
    "Qwen2_5_VLVisionBlock": vision_block,
    "Qwen2_5_VisionTransformerPretrainedModel": functools.partial(
        tower, is_whole=is_listed, count=None
    ),
    "Qwen2_5_VLRotaryEmbedding": text_rotary,
    "Qwen2_5_VLAttention": attention,
    "Qwen2_5_VLDecoderLayer": decoder_layer,
}
