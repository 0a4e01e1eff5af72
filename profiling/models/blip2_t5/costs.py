"""What BLIP-2 with flan-T5 costs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from profiling.models import analytic
from profiling.models.blip2.costs import Blip2Costs
from profiling.models.costs import HEAD
from profiling.models.geometry import Geometry


class Blip2T5Costs(Blip2Costs):
    """The text encoder reads the prompt once; each decode step attends to its output."""

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

    @property
    def reading_stack(self) -> analytic.Stack:
        return self.encoder_stack

    def prefill_terms(self, geometry: Geometry) -> dict[str, int]:
        # The decoder reads its start token, and computes the keys and values of the encoder's
        # output once for all steps.
        stack, length = self.decoder_stack, geometry.prompt_tokens
        keys = 2 * stack.layers * analytic.linear(length, stack.width, stack.key_width)
        encoded = self.encoder_stack.terms(length, length)
        head = self.head_flops(geometry)
        return {
            **{what: geometry.batch_size * flops for what, flops in encoded.items()},
            "cross-attention keys and values": geometry.batch_size * keys,
            "decoder, one token": self.decode_step_flops(geometry, 0) - head,
            HEAD: head,
        }

    def decode_step_flops(self, geometry: Geometry, step: int) -> int:
        stack = self.decoder_stack
        cross = 2 * stack.layers * analytic.linear(1, stack.width, stack.query_width)
        cross += stack.attend(1, geometry.prompt_tokens)
        one = stack.forward(1, step + 1) + cross
        return geometry.batch_size * one + self.head_flops(geometry)
