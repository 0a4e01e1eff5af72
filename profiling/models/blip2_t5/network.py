"""The layout of BLIP-2's network with flan-T5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from profiling.models.blip2.network import Blip2Layout
from profiling.models.network import Parts
from profiling.models.scaled_inputs import ScaledInput
from profiling.models.text_parts import (
    BATCH,
    BIAS,
    CROSS_BIAS,
    DECODER,
    EMBEDDING,
    EMBEDDINGS,
    ENCODED,
    ENCODER,
    LOGITS,
    NEW,
    PAST,
    CacheShape,
    Lengths,
    TextPart,
    TokenEmbedding,
    attention_bias,
    filled,
    flat,
    noise_cache,
    padded_on_the_left,
)


class CrossEncoder(TextPart):
    """The text encoder up to the keys and values that the decoder's cross-attention reads."""

    def __init__(self, *, encoder: nn.Module, decoder: Any, cache: CacheShape, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        attentions = [block.layer[1].EncDecAttention for block in decoder.block]
        self.projections = nn.ModuleList(m for a in attentions for m in (a.k, a.v))
        self.head_width = cache.width
        self.axes = {EMBEDDINGS: {0: BATCH, 1: ENCODED}, BIAS: {0: BATCH, 3: ENCODED}}
        self.outputs = cache.names("cross")

    def forward(self, inputs_embeds: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        hidden = self.encoder(inputs_embeds=inputs_embeds, attention_mask=bias).last_hidden_state
        return tuple(
            projection(hidden).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for projection in self.projections
        )

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        seen = padded_on_the_left(lengths.batch, lengths.encoded)
        shape = (lengths.batch, lengths.encoded, self.width)
        return {
            EMBEDDINGS: torch.randn(*shape, generator=generator),
            BIAS: attention_bias(seen, 1, torch.float32),
        }


class CrossDecoder(TextPart):
    """The decoder with its head; positions are relative and follow from the cache's length."""

    def __init__(self, *, decoder: nn.Module, head: nn.Module, cache: CacheShape, width: int):
        super().__init__()
        self.decoder, self.head, self.cache, self.width = decoder, head, cache, width
        self.axes = {
            EMBEDDINGS: {0: BATCH, 1: NEW},
            BIAS: {0: BATCH, 2: NEW, 3: "total"},
            CROSS_BIAS: {0: BATCH, 3: ENCODED},
            **{name: {0: BATCH, 2: PAST} for name in cache.names("past")},
            **{name: {0: BATCH, 2: ENCODED} for name in cache.names("cross")},
        }
        self.outputs = [LOGITS, *cache.names("present")]

    def forward(
        self, inputs_embeds: Tensor, bias: Tensor, cross_bias: Tensor, *kept: Tensor
    ) -> tuple[Tensor, ...]:
        own, cross = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        cache = EncoderDecoderCache(filled(own), filled(cross))
        cache.is_updated = dict.fromkeys(range(self.cache.layers), True)
        hidden = self.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=bias,
            # Read for being there only: the keys and values exist already.
            encoder_hidden_states=inputs_embeds,
            encoder_attention_mask=cross_bias,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return (self.head(hidden[:, -1:]), *flat(cache.self_attention_cache))

    def example(self, lengths: Lengths, generator: torch.Generator) -> dict[str, Tensor]:
        batch, past, encoded = lengths.batch, lengths.past, lengths.encoded
        # The start token is never padded; the encoder's tokens are.
        seen = torch.ones(batch, past + lengths.new, dtype=torch.long)
        shape = (batch, lengths.new, self.width)
        return {
            EMBEDDINGS: torch.randn(*shape, generator=generator),
            BIAS: attention_bias(seen, lengths.new, torch.float32),
            CROSS_BIAS: attention_bias(padded_on_the_left(batch, encoded), 1, torch.float32),
            **noise_cache(self.cache, "past", batch, past, generator),
            **noise_cache(self.cache, "cross", batch, encoded, generator),
        }


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
        head = network.get_submodule(self.parts.head)
        # A network that lacks the head has a module without weights in its place.
        if list(head.parameters()) and not self.config.text_config.scale_decoder_outputs:
            head.weight = nn.Parameter(torch.empty_like(head.weight))

    @property
    def decoder(self) -> str:
        return "language_model.decoder"

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        encoder, decoder = str(self.parts.text_encoder), self.decoder
        decoding = self.layer_paths(f"{decoder}.block", network)
        across = tuple(
            f"{path}.layer.1.EncDecAttention.{name}" for path in decoding for name in "kv"
        )
        found = [ScaledInput(before=f"{encoder}.final_layer_norm", layers=across)]
        for path in self.layer_paths(f"{encoder}.block", network):
            found += _attended(f"{path}.layer.0", "SelfAttention", "qkv")
            found += _gated(f"{path}.layer.1", network)
        for path in decoding:
            found += _attended(f"{path}.layer.0", "SelfAttention", "qkv")
            found += _attended(f"{path}.layer.1", "EncDecAttention", "q")
            found += _gated(f"{path}.layer.2", network)
        return found

    @property
    def cache_shape(self) -> CacheShape:
        text = self.config.text_config
        return CacheShape(
            layers=int(text.num_decoder_layers), heads=int(text.num_heads), width=int(text.d_kv)
        )

    @property
    def position_axes(self) -> int:
        return 0

    def text_parts(self, network: Any) -> dict[str, TextPart]:
        assert self.parts.text_encoder is not None
        decoder = network.get_submodule(self.decoder)
        table = network.get_input_embeddings()
        described = {"cache": self.cache_shape, "width": table.embedding_dim}
        return {
            EMBEDDING: TokenEmbedding(table),
            ENCODER: CrossEncoder(
                encoder=network.get_submodule(self.parts.text_encoder), decoder=decoder, **described
            ),
            DECODER: CrossDecoder(
                decoder=decoder, head=network.get_submodule(self.parts.head), **described
            ),
        }


def _attended(path: str, name: str, read: str) -> list[ScaledInput]:
    """The attention of a layer: its norm is before the projections named in `read`."""
    attention = f"{path}.{name}"
    return [
        ScaledInput(
            before=f"{path}.layer_norm", layers=tuple(f"{attention}.{one}" for one in read)
        ),
        ScaledInput(before=f"{attention}.v", layers=(f"{attention}.o",)),
    ]


def _gated(path: str, network: Any) -> list[ScaledInput]:
    inner = f"{path}.DenseReluDense"
    names = [name for name, _ in network.get_submodule(inner).named_children()]
    read = tuple(f"{inner}.{name}" for name in names if name.startswith("wi"))
    found = [ScaledInput(before=f"{path}.layer_norm", layers=read)]
    if len(read) > 1:
        # The second is multiplied by the activation of the first.
        found.append(ScaledInput(before=read[1], layers=(f"{inner}.wo",)))
    return found
