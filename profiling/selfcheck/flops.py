"""Compares the FLOP counter with arithmetic, for operators and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from profiling.costs.accounting import geometry_of
from profiling.costs.counting import FlopCounter
from profiling.costs.twin import analytic_by_phase
from profiling.probes.flops import TOLERANCES, FlopsProbe
from profiling.selfcheck.finding import Finding, compare
from profiling.selfcheck.tiny import describe_workload

# Without inference mode operators are those of the kernels, with it those of the library.
MODES = {"cpu": torch.no_grad, "meta": torch.inference_mode}


def check_operators() -> Iterator[Finding]:
    """One operator of each kind; counts are the same with values and on the meta device."""
    for device, mode in MODES.items():
        for name, (work, known) in _operators(device).items():
            with mode(), FlopCounter() as counter:
                work()
            yield compare(
                f"FLOPs, {device}: {name}",
                expected=known,
                found=counter.flops if not counter.unknown else None,
                unit="FLOP",
                tolerance=0,
                why="no formula for " + ", ".join(counter.unknown) if counter.unknown else "",
            )


def _operators(device: str) -> dict[str, tuple[Callable[[], Any], int]]:
    batch, heads, rows, columns, width = 2, 4, 10, 12, 8
    left = torch.empty(rows, columns, device=device)
    right = torch.empty(columns, width, device=device)
    query = torch.empty(batch, heads, rows, width, device=device)
    key = torch.empty(batch, heads, columns, width, device=device)
    grouped = torch.empty(batch, heads // 2, columns, width, device=device)
    layer = nn.Linear(columns, width, device=device)
    convolution = nn.Conv2d(3, 16, kernel_size=4, stride=4, device=device)
    pixels = torch.empty(2, 3, 8, 12, device=device)
    attend = functional.scaled_dot_product_attention
    attention = 4 * batch * heads * rows * columns * width
    return {
        "matrix product": (lambda: left @ right, 2 * rows * columns * width),
        "linear layer": (lambda: layer(left), 2 * rows * columns * width),
        "batched product": (lambda: query @ key.mT, 2 * batch * heads * rows * columns * width),
        "attention": (lambda: attend(query, key, key), attention),
        "attention, causal": (lambda: attend(query, key, key, is_causal=True), attention),
        "attention, grouped keys": (
            lambda: attend(query, grouped, grouped, enable_gqa=True),
            attention,
        ),
        "convolution": (lambda: convolution(pixels), 2 * (2 * 2 * 3) * (3 * 4 * 4) * 16),
    }


def check_family(name: str) -> Iterator[Finding]:
    """The probe on an embedded network, compared with arithmetic from its configuration."""
    family, workload = describe_workload(name)
    geometry = geometry_of(family, workload.encode(0), workload.max_new_tokens)
    known = analytic_by_phase(family, geometry)
    readings = {r.metric: r for r in FlopsProbe(cross_check=False).measure(workload)}
    whole = sum(flops for flops in known.values() if flops is not None)
    phases = {f"flops_{phase}": flops for phase, flops in known.items() if flops is not None}
    for metric, flops in {**phases, "flops": whole}.items():
        yield compare(
            f"FLOPs, {name}: {metric}",
            expected=flops,
            found=readings[metric].value,
            unit="FLOP",
            tolerance=TOLERANCES["analytic"],
            why=readings[metric].source,
        )
