"""BLIP-2 with flan-T5 at a size that trains on one core."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, T5Config

from training.families.blip2 import Blip2Family
from training.tokenizers import build_byte_level


class FAMILY(Blip2Family):
    name = "blip2_t5"
    reads_prompt_and_answer = False

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        return build_byte_level(
            special=["<pad>", "</s>", "<unk>"],
            template="$A </s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            padding_side="right",
        )

    def configure_text(self) -> PreTrainedConfig:
        return T5Config(
            vocab_size=len(self.tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=3,
            num_decoder_layers=3,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
            dropout_rate=0.0,
            eos_token_id=1,
            pad_token_id=0,
        )

    def build_network(self) -> PreTrainedModel:
        network = super().build_network()
        words = network.language_model.shared.weight
        # A spread of 1, as in T5 itself and as large as what the layers add. With smaller
        # embeddings the model does not learn to name colours.
        nn.init.normal_(words)
        # The library ties the head of every T5 to the embedding; flan-T5's head is untied.
        head = network.language_model.lm_head
        head.weight = nn.Parameter(torch.randn_like(head.weight) * 0.05)
        network.config.text_config.tie_word_embeddings = False
        return network

    def forward_apart(
        self, network: PreTrainedModel, pixels: dict[str, Tensor], prompts: Tensor, answers: Tensor
    ) -> Tensor:
        """Logits over the answer; the text encoder reads the prompt."""
        started = torch.nn.functional.pad(answers[:, :-1], (1, 0), value=0)
        return network(
            input_ids=prompts,
            attention_mask=(prompts != self.tokenizer.pad_token_id).long(),
            decoder_input_ids=started,
            interpolate_pos_encoding=True,
            use_cache=False,
            **pixels,
        ).logits
