"""Qwen2.5-VL: a vision transformer with windows, a merger, and a decoder with 3-D positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.processing_utils import ProcessorMixin

from profiling.models import analytic
from profiling.models.family import Family, Parts
from profiling.models.geometry import Geometry, blank
from profiling.models.stand_ins import HandsOn
from profiling.models.tower import VisionTower
from profiling.models.windows import attention_indices


class PictureProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """The library's processor without its video half, which cannot exist without torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=tokenizer.chat_template
        )


class WindowTower(VisionTower):
    """Tokens stay in the processor's order; attention gathers them into windows and back."""

    axes: ClassVar[Mapping[str, Mapping[int, str]]] = {
        "pixel_values": {0: "patches"},
        "positions": {0: "patches"},
        "window_gather": {0: "windows"},
        "window_mask": {0: "windows"},
        "window_scatter": {0: "patches"},
        "frame_gather": {0: "frames", 1: "longest"},
        "frame_mask": {0: "frames", 1: "longest"},
        "frame_scatter": {0: "patches"},
    }
    hidden_axes: ClassVar[Mapping[int, str]] = {0: "patches"}

    def __init__(self, tower: Any) -> None:
        super().__init__(tower.blocks)
        self.patches, self.merger = tower.patch_embed, tower.merger
        self.rotary = tower.rotary_pos_emb
        self.whole = frozenset(tower.fullatt_block_indexes)

    def embed(self, pixels: Tensor, *extras: Tensor) -> Tensor:
        # The kernel is as large as the patch, so the convolution is a product with a matrix.
        weight = self.patches.proj.weight
        return nn.functional.linear(pixels.to(weight.dtype), weight.flatten(1))

    def run_block(self, index: int, hidden: Tensor, *extras: Tensor) -> Tensor:
        positions, *indices = extras
        gather, mask, scatter = indices[3:] if index in self.whole else indices[:3]
        block: Any = self.blocks[index]
        inner = block.norm1(hidden)
        hidden = hidden + self._attend(block.attn, inner, positions, gather, mask, scatter)
        return hidden + block.mlp(block.norm2(hidden))  # type: ignore[no-any-return]

    def finish(self, hidden: Tensor) -> Tensor:
        return self.merger(hidden)  # type: ignore[no-any-return]

    def _attend(
        self,
        attention: Any,
        hidden: Tensor,  # [N, D]
        positions: Tensor,
        gather: Tensor,
        mask: Tensor,
        scatter: Tensor,
    ) -> Tensor:
        rows, slots = gather.shape
        joined = attention.qkv(hidden).reshape(hidden.shape[0], 3, attention.num_heads, -1)
        query, key, value = joined.unbind(1)
        angles = (positions[..., None].float() * self.rotary.inv_freq).flatten(1).repeat(1, 2)
        cos, sin = angles.cos(), angles.sin()
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        order = gather.reshape(-1)
        query, key, value = (
            tokens.index_select(0, order).unflatten(0, (rows, slots)).transpose(1, 2)
            for tokens in (query * attention.scaling, key, value)
        )  # [rows, H, slots, d]
        unseen = torch.finfo(query.dtype).min
        bias = torch.where(mask, 0.0, unseen).to(query.dtype)[:, None, None, :]
        scores = (query @ key.transpose(-1, -2) + bias).softmax(-1, dtype=torch.float32)
        seen = scores.to(value.dtype) @ value
        seen = seen.transpose(1, 2).reshape(rows * slots, -1).index_select(0, scatter)
        return attention.proj(seen)  # type: ignore[no-any-return]


class Qwen25VL(Family):
    parts = Parts(
        vision="model.visual",
        projector=("model.visual.merger",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = Qwen2_5_VLForConditionalGeneration
    keeps_aspect_ratio = True

    def load_processor(self, folder: Path | str, options: Mapping[str, Any]) -> Any:
        return PictureProcessor(
            image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),
        )

    @property
    def multiple(self) -> int:
        vision = self.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    def render(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )

    def encode(self, pictures: Sequence[Image.Image], texts: Sequence[str], side: int) -> Any:
        sized = self.resize(pictures, side)
        return self.processor(
            images=sized, text=list(texts), do_resize=False, padding=True, return_tensors="pt"
        )

    def seen_sizes(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
        patch = int(self.config.vision_config.patch_size)
        return [(w * patch, h * patch) for _, h, w in inputs["image_grid_thw"].tolist()]

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        tower = network.get_submodule(self.parts.vision)
        pixels = inputs["pixel_values"].type(tower.dtype)
        embeddings: Tensor = tower(pixels, grid_thw=inputs["image_grid_thw"]).pooler_output
        return embeddings

    def tower(self, network: Any) -> WindowTower:
        return WindowTower(network.get_submodule(self.parts.vision))

    def picture_inputs(
        self, sizes: Sequence[tuple[int, int]], generator: torch.Generator
    ) -> dict[str, Tensor]:
        patch = int(self.config.vision_config.patch_size)
        grids = torch.tensor([[1, height // patch, width // patch] for width, height in sizes])
        patches = int(grids.prod(-1).sum())
        return {
            "pixel_values": torch.randn(patches, self._patch_values, generator=generator),
            "image_grid_thw": grids,
        }

    def vision_call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"grid_thw": inputs["image_grid_thw"]}

    def tower_extras(self, named: Mapping[str, Any]) -> dict[str, Tensor]:
        vision = self.config.vision_config
        merge = int(vision.spatial_merge_size)
        indices = attention_indices(
            named["grid_thw"].tolist(), merge=merge, window=int(vision.window_size) // self.multiple
        )
        return {name: torch.from_numpy(index) for name, index in indices.items()}

    def single_pictures(self, pixels: Tensor, named: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        grids: Tensor = named["grid_thw"]
        apart = pixels.split(grids.prod(-1).tolist())
        return [
            {"pixel_values": patches, "image_grid_thw": grid[None]}
            for patches, grid in zip(apart, grids, strict=True)
        ]

    def single_embeddings(
        self, embeddings: Tensor, pictures: Sequence[Mapping[str, Tensor]]
    ) -> list[Tensor]:
        merged = int(self.config.vision_config.spatial_merge_size) ** 2
        return list(embeddings.split([len(p["pixel_values"]) // merged for p in pictures]))

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        merge = int(self.config.vision_config.spatial_merge_size)
        return {self.parts.vision: HandsOn(dtype=dtype, spatial_merge_size=merge)}

    def picture_recipe(self, side: int) -> dict[str, Any]:
        vision = self.config.vision_config
        patches = {
            "patch": int(vision.patch_size),
            "merge": int(vision.spatial_merge_size),
            "frames": int(vision.temporal_patch_size),
            "channels_last": False,
        }
        window = int(vision.window_size) // self.multiple
        return {**super().picture_recipe(side), "patches": patches, "window": window}

    def prompt_recipe(self) -> dict[str, Any]:
        return {**super().prompt_recipe(), "patch": int(self.config.vision_config.patch_size)}

    def vision_inputs(self, geometry: Geometry) -> dict[str, Any]:
        patch = int(self.config.vision_config.patch_size)
        patches = sum(geometry.patches(patch))
        return {
            "hidden_states": blank(patches, self._patch_values),
            # The windows are cut by what is in the grid, so it has values.
            "grid_thw": torch.tensor([[1, h // patch, w // patch] for w, h in geometry.sizes]),
            "position_ids": blank(patches, 2),
        }

    def projector_inputs(self, geometry: Geometry) -> list[dict[str, Any]]:
        vision = self.config.vision_config
        return [{"x": blank(sum(geometry.patches(vision.patch_size)), vision.hidden_size)}]

    def vision_flops(self, geometry: Geometry) -> int:
        vision = self.config.vision_config
        stack = analytic.encoder(
            layers=int(vision.depth),
            width=int(vision.hidden_size),
            inner_width=int(vision.intermediate_size),
            inner_matrices=3,
        )
        whole = len(vision.fullatt_block_indexes)
        flops = 0
        for size, patches in zip(geometry.sizes, geometry.patches(vision.patch_size), strict=True):
            flops += analytic.linear(patches, self._patch_values, stack.width) + stack.rows(patches)
            flops += whole * analytic.attention(patches, patches, stack.width)
            for window in self._windows(*size):
                flops += (stack.layers - whole) * analytic.attention(window, window, stack.width)
        return flops

    def projector_flops(self, geometry: Geometry) -> int:
        rows = sum(geometry.patches(self.multiple))
        merged = (
            self.config.vision_config.hidden_size * self.config.vision_config.spatial_merge_size**2
        )
        out = self.config.vision_config.out_hidden_size
        return analytic.linear(rows, merged, merged) + analytic.linear(rows, merged, out)

    @property
    def _patch_values(self) -> int:
        vision = self.config.vision_config
        return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)

    def _windows(self, width: int, height: int) -> list[int]:
        """How many patches are in each of the windows that attention is kept to."""
        vision = self.config.vision_config
        merged = self.multiple
        side = vision.window_size // merged
        columns, rows = width // merged, height // merged
        return [
            min(side, columns - left) * min(side, rows - top) * vision.spatial_merge_size**2
            for top in range(0, rows, side)
            for left in range(0, columns, side)
        ]


FAMILY = Qwen25VL
