"""Weights in groups with scales: what is stored, what comes back, what scaling leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from profiling.costs.traffic import weight_sizes
from profiling.models.grouped_linear import (
    Grouped,
    GroupedLinear,
    find_group,
    pack,
    quantize_groups,
    unpack,
)
from profiling.models.scaled_inputs import ScaledInput, repeated_heads


def random_weight(rows: int, width: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [8, 12, 13, 192])
def test_what_is_packed_comes_back(bits: int, width: int) -> None:
    codes = torch.randint(0, 2**bits, (5, width), dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (5, -(-width * bits // 8))
    assert torch.equal(unpack(packed, bits)[:, :width], codes)


@pytest.mark.parametrize(("bits", "group"), [(4, 16), (4, 64), (8, 32), (2, 16)])
def test_a_rounded_weight_is_within_half_a_step(bits: int, group: int) -> None:
    weight = random_weight(24, 128)
    grouped = quantize_groups(weight, bits=bits, group=group)
    steps = grouped.scales.float().repeat_interleave(group, dim=1)
    # The zero is rounded as well: at an end of the range that is another half.
    assert ((grouped.dense() - weight).abs() <= steps * 1.01).all()
    spread = weight.unflatten(1, (-1, group))
    expected = (spread.amax(-1).clamp(min=0) - spread.amin(-1).clamp(max=0)) / (2**bits - 1)
    torch.testing.assert_close(grouped.scales.float(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("factor", [1e-7, 1.0, 1e8])
def test_scales_that_half_precision_cannot_hold_are_kept_in_single(factor: float) -> None:
    weight = random_weight(4, 32) * factor
    grouped = quantize_groups(weight, bits=8, group=32)
    assert (grouped.scales.dtype == torch.float16) == (factor == 1.0)
    torch.testing.assert_close(
        grouped.dense(), weight, rtol=0, atol=float(weight.abs().max()) / 100
    )


def test_a_weight_of_zeros_stays_zero() -> None:
    weight = random_weight(3, 32).abs() + 1
    weight[0] = 0
    weight[1, ::2] = 0
    grouped = quantize_groups(weight, bits=4, group=16)
    dense = grouped.dense()
    assert grouped.scales.dtype == torch.float16
    assert (dense[weight == 0] == 0).all()


@pytest.mark.parametrize(
    ("width", "group", "found"),
    [(128, 64, 64), (192, 128, 96), (128, 128, 128), (64, 128, 64), (3420, 128, 114)],
)
def test_a_group_divides_the_width(width: int, group: int, found: int) -> None:
    assert find_group(width, group) == found


def test_a_width_without_a_useful_divisor_has_no_group() -> None:
    assert find_group(677 * 2, 64) is None


def test_a_layer_multiplies_with_the_stored_weight() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(64, 24)
    grouped = quantize_groups(plain.weight.detach(), bits=4, group=16)
    layer = GroupedLinear(grouped, plain.bias.detach())
    given = torch.randn(3, 5, 64)
    torch.testing.assert_close(layer(given), given @ grouped.dense().T + plain.bias)
    assert layer(given.bfloat16().to(torch.float64).float()).shape == (3, 5, 24)
    assert [p.requires_grad for p in layer.parameters()] == [False, False]


def test_groups_may_be_named_for_each_input() -> None:
    codes = torch.randint(0, 16, (6, 32), dtype=torch.uint8)
    order = torch.randperm(32)
    in_turn = {
        "bits": 4,
        "scales": torch.rand(6, 4) + 0.1,
        "zeros": torch.randint(0, 16, (6, 4), dtype=torch.uint8),
    }
    plain = Grouped(codes=codes, **in_turn)
    shuffled = Grouped(codes=codes[:, order], groups=(torch.arange(32) // 8)[order], **in_turn)
    assert torch.equal(GroupedLinear(shuffled, None).dense(), plain.dense()[:, order])


def test_what_a_layer_stores_is_counted_with_its_scales() -> None:
    grouped = quantize_groups(random_weight(32, 64), bits=4, group=16)
    network = nn.ModuleDict({"layer": GroupedLinear(grouped, torch.zeros(32))})
    # Half a byte each, and two bytes and one for each group.
    assert network["layer"].stored_bytes() == 32 * 64 // 2 + 32 * 4 * (2 + 1)
    sizes = weight_sizes(network)
    assert sizes == {"layer.weight": 32 * 64 // 2 + 32 * 4 * 3, "layer.bias": 32 * 4}


def test_several_heads_may_read_one() -> None:
    assert repeated_heads(4, 4, 8) is None
    assert repeated_heads(4, 2, 2) == (0, 1, 0, 1, 2, 3, 2, 3)
    one = ScaledInput(before="a", layers=("b",), channels=repeated_heads(4, 2, 2))
    means = one.mean_by_channel(torch.arange(8.0))
    assert means.tolist() == [1.0, 2.0, 5.0, 6.0]
    assert one.by_input(means).tolist() == [1.0, 2.0, 1.0, 2.0, 5.0, 6.0, 5.0, 6.0]


@pytest.mark.parametrize("power", [1, 2])
def test_scaling_leaves_a_product_as_it_is(power: int) -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict({"before": nn.Linear(8, 16), "layer": nn.Linear(16, 4)}).double()
    given = torch.randn(5, 8).double()

    def run() -> torch.Tensor:
        return network["layer"](network["before"](given).relu() ** power)

    expected = run()
    one = ScaledInput(before="before", layers=("layer",), power=power)
    scales = (torch.rand(16) * 5 + 0.1).double()
    one.multiply(network, scales)
    assert not torch.allclose(run(), expected)
    one.absorb(network, scales)
    torch.testing.assert_close(run(), expected, rtol=1e-5, atol=1e-5)
