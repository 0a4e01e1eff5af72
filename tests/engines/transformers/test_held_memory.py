"""Bytes that a network holds: its keys and values, and its weights by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from profiling.engines.transformers.held_memory import read_cache, read_weights, watch_cache
from profiling.records import UNAVAILABLE


def make_decoder() -> Any:
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return LlamaForCausalLM(config).eval()


def test_cache_bytes_per_token_are_those_of_the_configuration() -> None:
    network = make_decoder()

    def run() -> None:
        prompt = torch.ones(2, 5, dtype=torch.long)
        network.generate(
            prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )

    found = {reading.metric: reading.value for reading in read_cache(network, run)}
    # Keys and values, 3 layers, 2 heads of 16 numbers, 4 bytes each.
    per_token = 2 * 3 * 2 * 16 * 4
    assert found["kv_cache_bytes_per_token"] == per_token
    # 5 tokens of prompt and 3 of 4 new ones: the last is never fed back.
    assert found["kv_cache_bytes"] == per_token * 2 * (5 + 3)


def test_an_encoders_keys_and_values_do_not_grow() -> None:
    config = T5Config(
        d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, vocab_size=64,
        decoder_start_token_id=0,
    )  # fmt: skip
    network = T5ForConditionalGeneration(config).eval()
    with watch_cache(network) as size:
        network.generate(torch.ones(3, 7, dtype=torch.long), max_new_tokens=4, min_new_tokens=4)
    per_token = 2 * 2 * 4 * 8 * 4
    assert size.bytes_per_token == per_token
    assert size.fixed_bytes == per_token * 3 * 7
    assert not network._forward_hooks


def test_a_model_without_a_cache_says_so() -> None:
    network = nn.Linear(2, 2)
    [reading] = read_cache(network, lambda: network(torch.ones(1, 2)))
    assert (reading.value, reading.status) == (None, UNAVAILABLE)


def test_weights_by_part_add_up_to_the_whole() -> None:
    vision = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 7, bias=False))
    head = nn.Linear(7, 11, bias=False)
    language = nn.Embedding(11, 7)
    language.weight = head.weight
    network = nn.ModuleDict(
        {"vision": vision, "language": language, "head": head, "norm": nn.LayerNorm(2)}
    )
    parts = {
        "vision": [vision],
        "projector": [vision[1]],
        "text_encoder": [],
        "language": [language],
        "head": [head],
    }
    found = {reading.metric: reading.value for reading in read_weights(network, parts)}
    assert found == {
        "weights_vision_bytes": 3 * 5 * 4,
        "weights_projector_bytes": 5 * 7 * 4,
        "weights_text_encoder_bytes": 0,
        "weights_language_bytes": 7 * 11 * 4,
        "weights_head_bytes": 0,
        "weights_other_bytes": 2 * 2 * 4,
    }
    assert sum(found.values()) == sum(p.nbytes for p in network.parameters())
