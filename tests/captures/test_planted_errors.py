"""Errors planted into functions are found, other ways to compute the same are not flagged."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from benchmarks import qwen25vl_functions
from benchmarks.planted_errors import (
    DTYPES,
    ERRORS,
    VALUES,
    VARIANTS,
    Bench,
    Planted,
    capture_network,
)

# What hides an error where values are as the library initialises them, by the end of its name.
HIDDEN = {
    "merger: both biases left out": ("merger.mlp.0.bias", "merger.mlp.2.bias"),
    "norm: weight left out": ("norm1.weight", "post_attention_layernorm.weight", "ln_q.weight"),
    "vision: bias of qkv left out": ("attn.qkv.bias",),
    "vision: bias of q and k left out": ("attn.qkv.bias",),
    "text: bias of k left out": ("self_attn.k_proj.bias",),
    "text: the two norms swapped": ("input_layernorm.weight", "post_attention_layernorm.weight"),
}
CASES = [
    pytest.param(
        values,
        dtype,
        id=f"{values}-{str(dtype)[6:]}",
        marks=[] if (values, dtype) == ("trained", torch.float32) else [pytest.mark.slow],
    )
    for values in VALUES
    for dtype in DTYPES
]
# The fast suite plants those that ports have had, and every second of the others.
FROM_PORTS = (
    "merger: both biases left out",
    "vision: block numbers as texts, never full attention",
    "vision: a tower of one block",
)
PLANTED = [
    planted
    if number % 2 == 0 or planted.name in FROM_PORTS
    else pytest.param(planted, marks=pytest.mark.slow)
    for number, planted in enumerate(ERRORS)
]


@cache
def bench_of(values: str, dtype: torch.dtype) -> Bench:
    torch.set_num_threads(1)
    return Bench(*capture_network(values, dtype, Path(tempfile.mkdtemp()) / "calls"))


def is_found(bench: Bench, planted: Planted) -> bool:
    verdicts = bench.verdicts(planted.functions)
    assert verdicts, "none of its modules was called"
    # By its figures, not because the function failed.
    assert [verdict.problem for verdict in verdicts if verdict.problem] == []
    return any(not verdict.passes for verdict in verdicts)


def test_there_are_enough_of_them() -> None:
    assert len({planted.name for planted in ERRORS}) >= 25
    assert len({planted.name for planted in VARIANTS}) >= 5


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
@pytest.mark.parametrize(("values", "dtype"), CASES)
def test_planted_errors_are_found(values: str, dtype: torch.dtype, planted: Planted) -> None:
    hidden = values == "fresh" and planted.name in HIDDEN
    assert is_found(bench_of(values, dtype), planted) == (not hidden)


@pytest.mark.parametrize(("values", "dtype"), CASES)
def test_variants_are_not_flagged(values: str, dtype: torch.dtype) -> None:
    bench = bench_of(values, dtype)
    assert [planted.name for planted in VARIANTS if is_found(bench, planted)] == []
    assert [v.failures() for v in bench.verdicts(qwen25vl_functions.MODULES) if not v.passes] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_hides_an_error_is_named(dtype: torch.dtype) -> None:
    names = [spot.name for spot in bench_of("fresh", dtype).blind() if spot.subject == "weight"]
    for error, ends in HIDDEN.items():
        for end in ends:
            assert any(name.endswith(end) for name in names), f"{error}: {end}"


def test_the_innermost_module_is_named() -> None:
    """A wrong norm shows in the blocks around it, and is named alone."""
    bench = bench_of("trained", torch.float32)
    norm = next(planted for planted in ERRORS if planted.name == "norm: epsilon times 100")
    wrong = {**qwen25vl_functions.MODULES, **norm.functions}
    block = qwen25vl_functions.MODULES["Qwen2_5_VLVisionBlock"]

    def wrong_block(w, settings, arguments):
        return 1.01 * block(w, settings, arguments)

    verdicts = bench.verdicts({**wrong, "Qwen2_5_VLVisionBlock": wrong_block})
    innermost = {verdict.kind for verdict in verdicts if verdict.is_innermost}
    assert innermost == {"Qwen2_5_VLRMSNorm"}
    failing = {verdict.kind for verdict in verdicts if not verdict.passes}
    assert failing == {"Qwen2_5_VLRMSNorm", "Qwen2_5_VLVisionBlock"}
