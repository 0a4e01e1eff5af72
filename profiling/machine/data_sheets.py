"""What vendors state about their devices: peak FLOP/s by dtype and bytes/s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

TERA = 1e12


@dataclass(frozen=True, kw_only=True)
class DataSheet:
    """A vendor's figures: dense (no sparsity), by dtype, accumulating in fp32 where it matters."""

    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    document: str


def _sheet(
    *, half: float, float32: float, bfloat16: bool, terabytes: float, document: str
) -> DataSheet:
    """`half` and `float32` in TFLOP/s; float32 without TF32, as torch multiplies by default."""
    flops = {"float16": half * TERA, "float32": float32 * TERA}
    if bfloat16:
        flops["bfloat16"] = half * TERA
    return DataSheet(flops_per_s=flops, bytes_per_s=terabytes * TERA, document=document)


_ampere_on = partial(_sheet, bfloat16=True)
_before_ampere = partial(_sheet, bfloat16=False)
_h100 = "NVIDIA H100 Tensor Core GPU data sheet, sparse figures halved"
_a100 = "NVIDIA A100 Tensor Core GPU data sheet"

# By the name that the driver gives.
DATA_SHEETS: dict[str, DataSheet] = {
    "NVIDIA H200": _ampere_on(
        half=989.5,
        float32=67.0,
        terabytes=4.8,
        document="NVIDIA H200 Tensor Core GPU data sheet, sparse figures halved",
    ),
    "NVIDIA H100 80GB HBM3": _ampere_on(
        half=989.5, float32=67.0, terabytes=3.35, document=f"{_h100} (SXM)"
    ),
    "NVIDIA H100 PCIe": _ampere_on(
        half=756.5, float32=51.0, terabytes=2.0, document=f"{_h100} (PCIe)"
    ),
    "NVIDIA H100 NVL": _ampere_on(
        half=835.5, float32=60.0, terabytes=3.9, document=f"{_h100} (NVL)"
    ),
    "NVIDIA A100-SXM4-80GB": _ampere_on(half=312.0, float32=19.5, terabytes=2.039, document=_a100),
    "NVIDIA A100-SXM4-40GB": _ampere_on(half=312.0, float32=19.5, terabytes=1.555, document=_a100),
    "NVIDIA A100-PCIE-40GB": _ampere_on(half=312.0, float32=19.5, terabytes=1.555, document=_a100),
    "NVIDIA A100 80GB PCIe": _ampere_on(half=312.0, float32=19.5, terabytes=1.935, document=_a100),
    "NVIDIA A10": _ampere_on(
        half=125.0, float32=31.2, terabytes=0.6, document="NVIDIA A10 data sheet"
    ),
    "NVIDIA L4": _ampere_on(
        half=121.0,
        float32=30.3,
        terabytes=0.3,
        document="NVIDIA L4 data sheet, sparse figures halved",
    ),
    "NVIDIA L40S": _ampere_on(
        half=362.0, float32=91.6, terabytes=0.864, document="NVIDIA L40S data sheet"
    ),
    "Tesla T4": _before_ampere(
        half=65.0, float32=8.1, terabytes=0.32, document="NVIDIA T4 data sheet"
    ),
    "Tesla V100-SXM2-16GB": _before_ampere(
        half=125.0, float32=15.7, terabytes=0.9, document="NVIDIA V100 data sheet"
    ),
    "Tesla V100-SXM2-32GB": _before_ampere(
        half=125.0, float32=15.7, terabytes=0.9, document="NVIDIA V100 data sheet"
    ),
    "NVIDIA GeForce RTX 3090": _ampere_on(
        half=71.0,
        float32=35.6,
        terabytes=0.936,
        document="NVIDIA Ampere GA102 architecture whitepaper",
    ),
    "NVIDIA GeForce RTX 4090": _ampere_on(
        half=165.2,
        float32=82.6,
        terabytes=1.008,
        document="NVIDIA Ada GPU architecture whitepaper",
    ),
}


def find_data_sheet(name: str) -> DataSheet | None:
    """The vendor's figures for the device of exactly that name; near names are other products."""
    return DATA_SHEETS.get(name)
