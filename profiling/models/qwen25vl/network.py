"""The layout of Qwen2.5-VL's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_window_index

from profiling.models.attention_tap import tap_attention
from profiling.models.encoder_scores import EncoderScores
from profiling.models.network import Layout, Parts
from profiling.models.scaled_inputs import ScaledInput, gated_layers
from profiling.models.sequence_parts import PicturePositions
from profiling.models.stand_ins import PassThrough
from profiling.models.tower import VisionTower
from profiling.models.windows import attention_indices


class WindowTower(VisionTower):
    """Tokens keep the processor's order; attention gathers them into windows and scatters back."""

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
        # The kernel is as large as the patch, so the convolution is a matrix product.
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
        masked = torch.finfo(query.dtype).min
        bias = torch.where(mask, 0.0, masked).to(query.dtype)[:, None, None, :]
        scores = (query @ key.transpose(-1, -2) + bias).softmax(-1, dtype=torch.float32)
        values = scores.to(value.dtype) @ value
        values = values.transpose(1, 2).reshape(rows * slots, -1).index_select(0, scatter)
        return attention.proj(values)  # type: ignore[no-any-return]


class ReceivedScores(EncoderScores):
    """How much attention the patches of each visual token receive in the last block."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        tap_attention(visual.blocks[-1].attn, self._look)

    def _look(self, query: Tensor, key: Tensor, scaling: float) -> None:
        """One segment of attention; head by head, since all scores at a time may not fit."""
        (queries,), (keys,) = query, key
        received = [
            (q.float() @ k.float().transpose(-1, -2) * scaling).softmax(dim=-1).mean(dim=0)
            for q, k in zip(queries, keys, strict=True)
        ]
        self.parts.append(torch.stack(received).mean(dim=0))

    def by_picture(self, inputs: Mapping[str, Any]) -> list[Tensor]:
        grids, visual = inputs["image_grid_thw"], self.visual
        merged = torch.cat(self.parts).unflatten(0, (-1, visual.spatial_merge_unit)).mean(dim=1)
        # The blocks see the visual tokens window by window.
        order, _ = get_vision_window_index(
            grids,
            spatial_merge_size=visual.spatial_merge_size,
            window_size=visual.window_size,
            patch_size=visual.patch_size,
        )
        scores = merged[order.argsort().to(merged.device)]
        return list(scores.split((grids.prod(dim=-1) // visual.spatial_merge_unit).tolist()))


class Qwen25VLLayout(Layout):
    """The projector (the merger) is inside the vision part."""

    parts = Parts(
        vision="model.visual",
        projector=("model.visual.merger",),
        language="model.language_model",
        head="lm_head",
        text_encoder=None,
    )
    network_class = Qwen2_5_VLForConditionalGeneration
    encoder_attends = True

    def read_encoder(self, network: Any) -> ReceivedScores:
        return ReceivedScores(network.get_submodule(self.parts.vision))

    def picture_positions(self, token: int) -> PicturePositions:
        return PicturePositions(token=token, merge=self._merge)

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        return gated_layers(
            self.layer_paths(f"{self.decoder}.layers", network),
            heads=int(self.config.text_config.num_attention_heads),
            kept=self.cache_shape.heads,
            width=self.cache_shape.width,
        )

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        tower = network.get_submodule(self.parts.vision)
        pixels = inputs["pixel_values"].type(tower.dtype)
        embeddings: Tensor = tower(pixels, grid_thw=inputs["image_grid_thw"]).pooler_output
        return embeddings

    def tower(self, network: Any) -> WindowTower:
        return WindowTower(network.get_submodule(self.parts.vision))

    @property
    def window(self) -> int:
        vision = self.config.vision_config
        return int(vision.window_size) // int(vision.patch_size * vision.spatial_merge_size)

    def vision_arguments(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"grid_thw": inputs["image_grid_thw"]}

    def tower_inputs(self, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        indices = attention_indices(
            arguments["grid_thw"].tolist(), merge=self._merge, window=self.window
        )
        return {name: torch.from_numpy(index) for name, index in indices.items()}

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        return {self.parts.vision: PassThrough(dtype=dtype, spatial_merge_size=self._merge)}

    def split_pictures(
        self, pixels: Tensor, arguments: Mapping[str, Any]
    ) -> list[dict[str, Tensor]]:
        grids: Tensor = arguments["grid_thw"]
        patches_by_picture = pixels.split(grids.prod(-1).tolist())
        return [
            {"pixel_values": patches, "image_grid_thw": grid[None]}
            for patches, grid in zip(patches_by_picture, grids, strict=True)
        ]

    def split_embeddings(
        self, embeddings: Tensor, pictures: Sequence[Mapping[str, Tensor]]
    ) -> list[Tensor]:
        return list(embeddings.split([len(p["pixel_values"]) // self._merge**2 for p in pictures]))

    @property
    def _merge(self) -> int:
        """Side in patches of the square that becomes one visual token."""
        return int(self.config.vision_config.spatial_merge_size)
