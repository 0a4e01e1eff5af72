"""BLIP-2 with OPT at a size that trains on one core."""

from __future__ import annotations

from torch import nn
from transformers import OPTConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from training.families.blip2 import Blip2Family
from training.tokenizers import build_byte_level


class FAMILY(Blip2Family):
    name = "blip2_opt"

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        return build_byte_level(
            special=["<s>", "<pad>", "</s>", "<unk>"],
            template="</s> $A",
            bos_token="</s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            padding_side="left",
        )

    def build_network(self) -> PreTrainedModel:
        network = super().build_network()
        # Larger than by default, so that the question affects the hidden state; smaller than in
        # T5, since the head is tied to the embedding.
        nn.init.normal_(network.language_model.get_input_embeddings().weight, std=0.3)
        return network

    def configure_text(self) -> PreTrainedConfig:
        return OPTConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=128,
            word_embed_proj_dim=128,
            ffn_dim=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=1024,
            dropout=0.0,
            attention_dropout=0.0,
            bos_token_id=2,
            eos_token_id=2,
            pad_token_id=1,
        )
