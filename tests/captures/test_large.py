"""A network of 200 million values, captured within the bytes that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from profiling.captures import capture
from profiling.captures.folder import Capture
from profiling.captures.replay import replay_all
from profiling.parts.artifacts import size_bytes

BOUND = 50_000_000


@pytest.mark.slow
def test_a_large_network_is_captured_within_its_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True)
    network = nn.TransformerEncoder(layer, 16, enable_nested_tensor=False).eval()
    network.requires_grad_(False)
    assert sum(parameter.numel() for parameter in network.parameters()) > 200e6
    with capture(network, tmp_path / "calls", max_bytes=BOUND, weights=False):
        network(torch.randn(2, 512, 1024))
    assert size_bytes(tmp_path / "calls") <= BOUND
    found = Capture(tmp_path / "calls")
    assert len(found.calls) > 5
    assert found.facts["left_out"]["calls"]
    assert all(one.equal for one in replay_all(found, network))
