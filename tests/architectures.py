"""Tiny checkpoints with random values of many architectures, in folders as the hub has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from training.tokenizers import build_byte_level

Values = Mapping[str, Any]

WIDTH, LAYERS, HEADS = 32, 2, 4
SIDE, PATCH = 56, 14
_SPREAD = 0.08
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}@{% else %}{{ item['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOKENS = (
    *("<pad>", "<s>", "</s>", "<unk>", "<image>", "</image>", "<video>"),
    *("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image|>", "<|video|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    *("<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
    *("<img>", "</img>", "<IMG_CONTEXT>", "<imgpad>"),
    *("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    *("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    *("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"),
    *("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"),
    *("TILE_GLOBAL", *(f"TILE_{number}" for number in range(1, 13))),
    *("<image_placeholder>", "<begin_of_image>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
_ID = {token: number for number, token in enumerate(_TOKENS)}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What makes a checkpoint of a model type."""

    config: Values
    images: str  # class of the image processor, without its ending
    image_settings: Values = field(default_factory=dict)
    # What stands for a picture in the chat template; None: there is no such template.
    mark: str | None = "<image>"
    # The tokens that the processor asks the tokenizer for by name.
    names: Values = field(default_factory=dict)
    processor: str | None = None  # None: the one that is usual for the type
    processor_settings: Values = field(default_factory=dict)
    model_type: str | None = None  # None: the name of the architecture
    # A prompt for checkpoints without a chat template.
    prompt: str | None = None


@cache
def vocabulary() -> int:
    return -(-len(_tokenizer({})) // 64) * 64


def _text(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "head_dim": WIDTH // HEADS,
        "vocab_size": vocabulary(),
        "max_position_embeddings": 4096,
        "pad_token_id": _ID["<pad>"],
        "bos_token_id": _ID["<s>"],
        "eos_token_id": _ID["</s>"],
        **more,
    }


def _vit(kind: str | None = None, **more: Any) -> dict[str, Any]:
    """The vision part; some configurations have one kind only and name none."""
    named = {} if kind is None else {"model_type": kind}
    return {
        **named,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        **more,
    }


def _siglip() -> dict[str, Any]:
    return _vit("siglip_vision_model", vision_use_head=False)


def _blocks(patch: int, **more: Any) -> dict[str, Any]:
    """Vision parts that take pictures of any shape as rows of patches."""
    return {
        "depth": LAYERS,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": HEADS,
        "patch_size": patch,
        **more,
    }


def _rope(**more: Any) -> dict[str, Any]:
    sections = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    return {"rope_parameters": {**sections, **more}}


def _pixels(least: int, most: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": least, "longest_edge": most}}


_SQUARE = {"size": {"height": SIDE, "width": SIDE}}
_CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
_TILES = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
_QWEN = {
    "image_token_id": _ID["<|image_pad|>"],
    "video_token_id": _ID["<|video_pad|>"],
    "vision_start_token_id": _ID["<|vision_start|>"],
    "vision_end_token_id": _ID["<|vision_end|>"],
}
_QWEN_MARK = "<|vision_start|><|image_pad|><|vision_end|>"
_IMAGE = {"image_token_id": _ID["<image>"]}
_GEMMA = {
    "image_token_index": _ID["<image_soft_token>"],
    "boi_token_index": _ID["<start_of_image>"],
    "eoi_token_index": _ID["<end_of_image>"],
    "mm_tokens_per_image": 4,
}
_GEMMA_NAMES = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
_PIXTRAL_IMAGES = {
    "patch_size": {"height": PATCH, "width": PATCH},
    "size": {"longest_edge": 2 * SIDE},
}
_KOSMOS_TEXT = {
    "embed_dim": WIDTH,
    "layers": LAYERS,
    "ffn_dim": 2 * WIDTH,
    "attention_heads": HEADS,
    "max_position_embeddings": 2048,
    "pad_token_id": _ID["<pad>"],
    "bos_token_id": _ID["<s>"],
    "eos_token_id": _ID["</s>"],
}


def _pixtral() -> dict[str, Any]:
    return _vit("pixtral", image_size=224, head_dim=WIDTH // HEADS)


def _qwen2_vl() -> Architecture:
    vision = {"depth": 2, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": HEADS}
    return Architecture(
        config={
            "text_config": _text("qwen2_vl_text", **_rope()),
            "vision_config": {**vision, "mlp_ratio": 2, "patch_size": PATCH},
            **_QWEN,
        },
        images="Qwen2VLImageProcessor",
        image_settings=_pixels(SIDE**2, 4 * SIDE**2),
        mark=_QWEN_MARK,
    )


def _qwen3_vl() -> Architecture:
    vision = _blocks(16, out_hidden_size=WIDTH, num_position_embeddings=64)
    return Architecture(
        config={
            "text_config": _text("qwen3_vl_text", **_rope(mrope_interleaved=True)),
            "vision_config": {**vision, "deepstack_visual_indexes": [0, 1]},
            **_QWEN,
        },
        images="Qwen2VLImageProcessor",
        image_settings={"patch_size": 16, **_pixels(64**2, 4 * 64**2)},
        mark=_QWEN_MARK,
    )


def _qwen3_5() -> Architecture:
    linear = {f"linear_{name}_head_dim": 8 for name in ("key", "value")}
    text = _text(
        "qwen3_5_text",
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        **linear,
        **_rope(mrope_interleaved=True, partial_rotary_factor=1.0),
    )
    return Architecture(
        config={
            "text_config": text,
            "vision_config": _blocks(16, out_hidden_size=WIDTH, num_position_embeddings=64),
            **_QWEN,
        },
        images="Qwen2VLImageProcessor",
        image_settings={"patch_size": 16, **_pixels(64**2, 4 * 64**2)},
        mark=_QWEN_MARK,
    )


def _glm4v() -> Architecture:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    text = _text("glm4v_text", rope_parameters={**rope, "mrope_section": [1, 1, 2]})
    ends = {
        f"{kind}_{end}_token_id": _ID[f"<|{name}_of_{kind}|>"]
        for kind in ("image", "video")
        for end, name in (("start", "begin"), ("end", "end"))
    }
    return Architecture(
        config={
            "text_config": text,
            "vision_config": _blocks(PATCH, out_hidden_size=WIDTH, image_size=SIDE),
            "image_token_id": _ID["<|image|>"],
            "video_token_id": _ID["<|video|>"],
            **ends,
        },
        images="Glm4vImageProcessor",
        image_settings=_pixels(SIDE**2, 8 * SIDE**2),
        mark="<|begin_of_image|><|image|><|end_of_image|>",
    )


def _llava_next() -> Architecture:
    grids = {"image_grid_pinpoints": _TILES}
    vision = _vit("clip_vision_model")
    return Architecture(
        config={"text_config": _text("llama"), "vision_config": vision, **_IMAGE, **grids},
        images="LlavaNextImageProcessor",
        image_settings={**_CROPPED, **grids},
        processor_settings={
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    )


def _llava_onevision() -> Architecture:
    grids = {"image_grid_pinpoints": _TILES}
    return Architecture(
        config={
            "text_config": _text("qwen2"),
            "vision_config": _siglip(),
            **_IMAGE,
            "video_token_id": _ID["<video>"],
            **grids,
        },
        images="LlavaOnevisionImageProcessor",
        image_settings={**_SQUARE, **grids},
        processor_settings={
            "num_image_tokens": (SIDE // PATCH) ** 2,
            "vision_feature_select_strategy": "full",
        },
    )


def _idefics3(name: str, images: str) -> Architecture:
    return Architecture(
        config={
            "text_config": _text("llama"),
            "vision_config": _vit(f"{name}_vision"),
            **_IMAGE,
            "scale_factor": 2,
        },
        images=images,
        image_settings={
            "size": {"longest_edge": 2 * SIDE},
            "max_image_size": {"longest_edge": SIDE},
        },
        processor_settings={"image_seq_len": 4},
    )


def _idefics2() -> Architecture:
    perceiver = {
        "hidden_size": WIDTH,
        "resampler_n_latents": 8,
        "resampler_depth": 1,
        "resampler_n_heads": HEADS,
        "resampler_head_dim": WIDTH // HEADS,
        "num_key_value_heads": 2,
    }
    return Architecture(
        config={
            "text_config": _text("mistral"),
            "vision_config": _vit("idefics2_vision"),
            "perceiver_config": perceiver,
            **_IMAGE,
        },
        images="Idefics2ImageProcessor",
        image_settings={
            "size": {"shortest_edge": SIDE // 2, "longest_edge": SIDE},
            "do_image_splitting": False,
        },
        processor_settings={"image_seq_len": 8},
    )


def _internvl() -> Architecture:
    vision = _vit(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH])
    return Architecture(
        config={
            "text_config": _text("qwen2"),
            "vision_config": vision,
            "image_token_id": _ID["<IMG_CONTEXT>"],
        },
        images="GotOcr2ImageProcessor",
        image_settings={**_SQUARE, "crop_to_patches": True, "max_patches": 4},
        mark="<IMG_CONTEXT>",
        names={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        processor_settings={"image_seq_length": 4},
    )


def _gemma3() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("gemma3_text", sliding_window=512),
            "vision_config": _siglip(),
            "image_token_id": _ID["<image_soft_token>"],
            **_GEMMA,
        },
        images="Gemma3ImageProcessor",
        image_settings=_SQUARE,
        mark="<start_of_image>",
        names=_GEMMA_NAMES,
        processor_settings={"image_seq_length": 4},
    )


def _paligemma() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("gemma"),
            "vision_config": {**_siglip(), "projection_dim": WIDTH},
            "projection_dim": WIDTH,
            **_IMAGE,
        },
        images="SiglipImageProcessor",
        image_settings={**_SQUARE, "image_seq_length": (SIDE // PATCH) ** 2},
        mark=None,
        names={"image_token": "<image>"},
        prompt="<image>answer {question}",
    )


def _mllama() -> Architecture:
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    shapes = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    vision = {
        **_vit(num_global_layers=1, attention_heads=HEADS, max_num_tiles=4),
        "intermediate_layers_indices": [0, 1],
        "supported_aspect_ratios": shapes,
        "vision_output_dim": 3 * WIDTH,
    }
    return Architecture(
        config={
            "text_config": _text("mllama_text_model", cross_attention_layers=[1], **rope),
            "vision_config": vision,
            "image_token_id": _ID["<|image|>"],
        },
        images="MllamaImageProcessor",
        image_settings={**_SQUARE, "max_image_tiles": 4},
        mark="<|image|>",
    )


def _mistral3() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("mistral"),
            "vision_config": _pixtral(),
            "image_token_id": _ID["[IMG]"],
            "spatial_merge_size": 2,
            "vision_feature_layer": -1,
        },
        images="PixtralImageProcessor",
        image_settings=_PIXTRAL_IMAGES,
        mark="[IMG]",
        processor_settings={"patch_size": PATCH, "spatial_merge_size": 2},
    )


def _pixtral_llava() -> Architecture:
    return Architecture(
        model_type="llava",
        config={
            "text_config": _text("mistral"),
            "vision_config": _pixtral(),
            "image_token_id": _ID["[IMG]"],
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
        images="PixtralImageProcessor",
        image_settings=_PIXTRAL_IMAGES,
        mark="[IMG]",
        processor="PixtralProcessor",
        processor_settings={"patch_size": PATCH},
    )


def _lighton_ocr() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("qwen3"),
            "vision_config": _pixtral(),
            "image_token_id": _ID["[IMG]"],
            "spatial_merge_size": 2,
        },
        images="PixtralImageProcessor",
        image_settings=_PIXTRAL_IMAGES,
        mark="[IMG]",
        names={
            "image_token": "[IMG]",
            "image_break_token": "[IMG_BREAK]",
            "image_end_token": "[IMG_END]",
        },
        processor_settings={"patch_size": PATCH, "spatial_merge_size": 2},
    )


def _florence2() -> Architecture:
    sides = ("encoder", "decoder")
    text = {
        "model_type": "bart",
        "d_model": WIDTH,
        **{f"{side}_layers": LAYERS for side in sides},
        **{f"{side}_attention_heads": HEADS for side in sides},
        **{f"{side}_ffn_dim": 2 * WIDTH for side in sides},
        "vocab_size": vocabulary(),
        "max_position_embeddings": 1024,
        "pad_token_id": _ID["<pad>"],
        "bos_token_id": _ID["<s>"],
        "eos_token_id": _ID["</s>"],
        "decoder_start_token_id": _ID["</s>"],
        "is_encoder_decoder": True,
    }
    vision = {
        "model_type": "florence_vision",
        "depths": (1, 1, 1, 1),
        "embed_dim": (8, 16, 16, WIDTH),
        "num_heads": (2, 2, 2, HEADS),
        "num_groups": (2, 2, 2, HEADS),
        "window_size": 4,
        "projection_dim": WIDTH,
    }
    return Architecture(
        config={"text_config": text, "vision_config": vision, **_IMAGE},
        images="CLIPImageProcessor",
        image_settings={
            "size": {"height": 224, "width": 224},
            "do_center_crop": False,
            "image_seq_length": 50,
        },
        mark=None,
        names={"image_token": "<image>"},
        prompt="answer: {question}",
    )


def _ovis2() -> Architecture:
    indicators = ("START", "GRID", "COL", "ROW", "END")
    vision = _vit(vocab_size=128, hidden_stride=2, num_visual_indicator_tokens=5)
    return Architecture(
        config={
            "text_config": _text("qwen2"),
            "vision_config": vision,
            "image_token_id": _ID["<IMG_ATOM>"],
            "visual_indicator_token_ids": [_ID[f"<IMG_{name}>"] for name in indicators],
            "vocab_size": vocabulary(),
            "hidden_size": WIDTH,
        },
        images="Ovis2ImageProcessor",
        image_settings={**_SQUARE, "crop_to_patches": False},
        processor_settings={"image_seq_length": 4},
    )


def _aya_vision() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("cohere2", sliding_window=512),
            "vision_config": _siglip(),
            "image_token_id": _ID["<|IMG_PATCH|>"],
            "image_token_index": _ID["<|IMG_PATCH|>"],
            "downsample_factor": 2,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "alignment_intermediate_size": 2 * WIDTH,
        },
        images="GotOcr2ImageProcessor",
        image_settings={**_SQUARE, "crop_to_patches": True, "max_patches": 4},
        processor_settings={"patch_size": PATCH, "img_size": SIDE, "downsample_factor": 2},
    )


def _deepseek_vl() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("llama"),
            "vision_config": _siglip(),
            "image_token_id": _ID["<image_placeholder>"],
        },
        images="DeepseekVLImageProcessor",
        image_settings={**_SQUARE, "min_size": PATCH},
        mark="<image_placeholder>",
        names={"image_token": "<image_placeholder>"},
        processor_settings={"num_image_tokens": (SIDE // PATCH) ** 2},
    )


def _janus() -> Architecture:
    tokens = (SIDE // PATCH) ** 2
    vision = {**_vit(), "mlp_ratio": 2.0, "projection_dim": WIDTH, "num_image_tokens": tokens}
    drawing = {
        "embed_dim": 8,
        "num_embeddings": 32,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "projection_dim": WIDTH,
        "image_token_embed_dim": WIDTH,
        "num_patches": 4,
    }
    return Architecture(
        config={
            "text_config": _text("llama"),
            "vision_config": {**vision, "depth": LAYERS},
            "vq_config": drawing,
            "image_token_id": _ID["<image_placeholder>"],
        },
        images="JanusImageProcessor",
        image_settings={**_SQUARE, "min_size": PATCH},
        mark="<image_placeholder>",
        names={
            "image_token": "<image_placeholder>",
            "boi_token": "<begin_of_image>",
            "eoi_token": "<end_of_image>",
        },
        processor_settings={"num_image_tokens": tokens},
    )


def _kosmos2() -> Architecture:
    return Architecture(
        config={
            "text_config": {**_KOSMOS_TEXT, "vocab_size": vocabulary()},
            "vision_config": _vit(),
            "latent_query_num": 64,
        },
        images="CLIPImageProcessor",
        image_settings=_CROPPED,
        mark=None,
        processor="Kosmos2Processor",
        processor_settings={"num_patch_index_tokens": 4},
        prompt="answer: {question}",
    )


def _kosmos25() -> Architecture:
    vision = {
        "hidden_size": WIDTH,
        "patch_embed_hidden_size": 768,
        "d_ff": 2 * WIDTH,
        "intermediate_size": 2 * WIDTH,
        "head_dim": WIDTH // HEADS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    }
    return Architecture(
        config={
            "text_config": {**_KOSMOS_TEXT, "vocab_size": vocabulary()},
            "vision_config": vision,
            "latent_query_num": 16,
        },
        images="Kosmos2_5ImageProcessor",
        image_settings={"max_patches": 32},
        mark=None,
        names={"image_token": "<s>", "boi_token": "<image>", "eoi_token": "</image>"},
        processor="Kosmos2_5Processor",
        processor_settings={"num_image_tokens": 16},
        prompt="answer: {question}",
    )


def _got_ocr2() -> Architecture:
    vision = {
        "hidden_size": WIDTH,
        "output_channels": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": 1024,
        "patch_size": 16,
        "mlp_dim": 2 * WIDTH,
        "window_size": 14,
        "global_attn_indexes": [1],
    }
    return Architecture(
        config={
            "text_config": _text("qwen2"),
            "vision_config": vision,
            "image_token_id": _ID["<imgpad>"],
        },
        images="GotOcr2ImageProcessor",
        image_settings={"size": {"height": 1024, "width": 1024}},
        mark="<imgpad>",
    )


def _vipllava() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("llama"),
            "vision_config": _vit("clip_vision_model"),
            **_IMAGE,
            "vision_feature_layers": [-1, -2],
        },
        images="CLIPImageProcessor",
        image_settings=_CROPPED,
        processor_settings={
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    )


def _video_llama_3() -> Architecture:
    vision = {name: value for name, value in _vit().items() if name != "image_size"}
    return Architecture(
        config={
            "text_config": _text("qwen2"),
            "vision_config": vision,
            **_IMAGE,
            "video_token_id": _ID["<video>"],
        },
        images="VideoLlama3ImageProcessor",
        image_settings=_pixels((SIDE // 2) ** 2, 4 * SIDE**2),
        names={"image_token": "<image>", "video_token": "<video>"},
    )


def _paddleocr_vl() -> Architecture:
    return Architecture(
        config={
            "text_config": _text("paddleocr_vl_text", **_rope()),
            "vision_config": _vit(spatial_merge_size=2),
            **_QWEN,
        },
        images="PaddleOCRVLImageProcessor",
        image_settings=_pixels((SIDE // 2) ** 2, 4 * SIDE**2),
        mark="<|image_pad|>",
        names={"image_token": "<|image_pad|>"},
    )


def _gemma4() -> Architecture:
    text = _text(
        "gemma4_text",
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=vocabulary(),
        num_kv_shared_layers=0,
        sliding_window=512,
        layer_types=["sliding_attention", "full_attention"],
        global_head_dim=8,
    )
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
        "patch_size": 16,
        "position_embedding_size": 1024,
        "pooling_kernel_size": 3,
    }
    ids = {
        "image_token_id": _ID["<image_soft_token>"],
        "boi_token_id": _ID["<start_of_image>"],
        "eoi_token_id": _ID["<end_of_image>"],
    }
    sounds = dict.fromkeys(("audio_token", "boa_token", "eoa_token"), "<unk>")
    return Architecture(
        config={"text_config": text, "vision_config": vision, **ids},
        images="Gemma4ImageProcessor",
        mark="<image_soft_token>",
        names={**_GEMMA_NAMES, **sounds},
    )


def _aria() -> Architecture:
    text = _text(
        "aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1, intermediate_size=32
    )
    return Architecture(
        config={
            "text_config": text,
            "vision_config": _vit("idefics3_vision", image_size=980, patch_size=140),
            "image_token_id": _ID["<image>"],
            "image_token_index": _ID["<image>"],
            "projector_patch_to_query_dict": {"49": 8},
        },
        images="AriaImageProcessor",
        image_settings={"max_image_size": 980, "min_image_size": 336},
        names={"image_token": "<image>"},
        processor_settings={"size_conversion": {980: 8}},
    )


def _t5gemma2() -> Architecture:
    bounded = {"sliding_window": 512}
    encoder = {"text_config": _text("t5gemma2_text", **bounded), "vision_config": _siglip()}
    return Architecture(
        config={
            "encoder": {**encoder, **_GEMMA},
            "decoder": _text("t5gemma2_decoder", **bounded),
            "image_token_index": _ID["<image_soft_token>"],
        },
        images="Gemma3ImageProcessor",
        image_settings=_SQUARE,
        mark="<start_of_image>",
        names=_GEMMA_NAMES,
        processor_settings={"image_seq_length": 4},
    )


_MAKERS: dict[str, Callable[[], Architecture]] = {
    "aria": _aria,
    "aya_vision": _aya_vision,
    "deepseek_vl": _deepseek_vl,
    "florence2": _florence2,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "glm4v": _glm4v,
    "got_ocr2": _got_ocr2,
    "idefics2": _idefics2,
    "idefics3": lambda: _idefics3("idefics3", "Idefics3ImageProcessor"),
    "internvl": _internvl,
    "janus": _janus,
    "kosmos-2": _kosmos2,
    "kosmos-2.5": _kosmos25,
    "lighton_ocr": _lighton_ocr,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "mistral3": _mistral3,
    "mllama": _mllama,
    "ovis2": _ovis2,
    "paddleocr_vl": _paddleocr_vl,
    "paligemma": _paligemma,
    "pixtral": _pixtral_llava,
    "qwen2_vl": _qwen2_vl,
    "qwen3_5": _qwen3_5,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": lambda: _idefics3("smolvlm", "SmolVLMImageProcessor"),
    "t5gemma2": _t5gemma2,
    "video_llama_3": _video_llama_3,
    "vipllava": _vipllava,
}
ARCHITECTURES = tuple(_MAKERS)


def describe(name: str) -> Architecture:
    return _MAKERS[name]()


def write_checkpoint(name: str, folder: Path, *, values: bool = True) -> Path:
    """A folder with what a hub repository has; without values, all but the weights."""
    made = describe(name)
    kind = made.model_type or name
    config = AutoConfig.for_model(kind, **made.config, tie_word_embeddings=False)
    if values:
        _network(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    _write_image_processor(made, folder)
    tokenizer = _tokenizer(made.names)
    if made.mark is not None:
        tokenizer.chat_template = _CHAT.replace("@", made.mark)
    tokenizer.save_pretrained(folder)
    named = made.processor or PROCESSOR_MAPPING_NAMES[kind]
    settings = {"processor_class": named, **made.processor_settings}
    (folder / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _network(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _fill(module, name, parameter, generator)
    return network


def _fill(module: nn.Module, name: str, parameter: Any, generator: torch.Generator) -> None:
    """Large enough that another picture moves what comes of it."""
    if name == "weight" and parameter.ndim == 1 and "norm" in type(module).__name__.lower():
        parameter.fill_(1)
    elif name == "bias":
        parameter.zero_()
    else:
        parameter.normal_(0, _SPREAD, generator=generator)


def _write_image_processor(made: Architecture, folder: Path) -> None:
    images = getattr(transformers, f"{made.images}Pil")(**made.image_settings)
    images.save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # As repositories name it, whatever it was written by.
    settings["image_processor_type"] = made.images
    path.write_text(json.dumps(settings), encoding="utf-8")


def _tokenizer(names: Values) -> Any:
    tokenizer = build_byte_level(
        special=list(_TOKENS),
        template=None,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=dict(names),
    )
    tokenizer.padding_side = "left"
    return tokenizer
