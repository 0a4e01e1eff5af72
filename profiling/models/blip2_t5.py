"""BLIP-2 with a flan-T5: its text encoder reads the picture and the prompt, its decoder answers."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from profiling.models import analytic
from profiling.models.blip2 import Blip2
from profiling.models.family import Parts
from profiling.models.geometry import Geometry


class Blip2T5(Blip2):
    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder="language_model.encoder",
    )
    encoder_decoder = True
    # T5's attention adds relative positions to its scores, which the kernels cannot.
    flash_attention: ClassVar[str | dict[str, str]] = {
        "": "sdpa",
        "vision_config": "flash_attention_2",
        "qformer_config": "sdpa",
        "text_config": "sdpa",
    }

    def untie(self, network: Any) -> None:
        # The library ties every T5's head to its embedding. flan-T5's is its own, which its
        # config.json says through the option that the library reads as "do not scale".
        if not self.config.text_config.scale_decoder_outputs:
            head = network.get_submodule(self.parts.head)
            head.weight = nn.Parameter(torch.empty_like(head.weight))

    def adapt_tokenizer(self) -> None:
        # Relative positions see padding between the picture and the prompt; behind it they do not.
        self.tokenizer.padding_side = "right"

    @property
    def decoder(self) -> str:
        return "language_model.decoder"

    @cached_property
    def encoder_stack(self) -> analytic.Stack:
        text = self.config.text_config
        heads_width = int(text.num_heads * text.d_kv)
        return analytic.Stack(
            layers=int(text.num_layers),
            width=int(text.d_model),
            query_width=heads_width,
            key_width=heads_width,
            inner_width=int(text.d_ff),
            inner_matrices=3 if text.is_gated_act else 2,
        )

    @cached_property
    def decoder_stack(self) -> analytic.Stack:
        return replace(self.encoder_stack, layers=int(self.config.text_config.num_decoder_layers))

    def text_encoder_flops(self, geometry: Geometry) -> int:
        length = geometry.prompt_tokens
        return geometry.batch_size * self.encoder_stack.forward(length, length)

    def prefill_flops(self, geometry: Geometry) -> int:
        # The decoder takes its start token, and the keys and values of the encoder's output
        # are made here, once for all steps.
        stack = self.decoder_stack
        keys = (
            2 * stack.layers * analytic.linear(geometry.prompt_tokens, stack.width, stack.key_width)
        )
        return (
            self.text_encoder_flops(geometry)
            + geometry.batch_size * keys
            + self.decode_step_flops(geometry, 0)
        )

    def decode_step_flops(self, geometry: Geometry, step: int) -> int:
        stack = self.decoder_stack
        looking = 2 * stack.layers * analytic.linear(1, stack.width, stack.query_width)
        looking += stack.attend(1, geometry.prompt_tokens)
        one = stack.forward(1, step + 1) + looking
        return geometry.batch_size * one + self.head_flops(geometry)


FAMILY = Blip2T5
