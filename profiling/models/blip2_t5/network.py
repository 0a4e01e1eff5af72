"""The layout of BLIP-2's network with flan-T5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from profiling.models.blip2.network import Blip2Layout
from profiling.models.network import Parts


class Blip2T5Layout(Blip2Layout):
    """The language part holds a text encoder, a decoder and the head."""

    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder="language_model.encoder",
    )
    encoder_decoder = True
    # T5 adds relative positions to its attention scores, which the kernels cannot.
    flash_attention: ClassVar[str | dict[str, str]] = {
        "": "sdpa",
        "vision_config": "flash_attention_2",
        "qformer_config": "sdpa",
        "text_config": "sdpa",
    }

    def untie(self, network: Any) -> None:
        # The library ties the head of every T5 to its embedding. flan-T5 has a head of its own,
        # and its config.json says so by the option that the library reads as "do not scale".
        if not self.config.text_config.scale_decoder_outputs:
            head = network.get_submodule(self.parts.head)
            head.weight = nn.Parameter(torch.empty_like(head.weight))

    @property
    def decoder(self) -> str:
        return "language_model.decoder"
