"""What vendors state about their devices: peak FLOP/s by dtype and bytes/s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from profiling.errors import ConfigError

GIGA, TERA = 1e9, 1e12


@dataclass(frozen=True, kw_only=True)
class DataSheet:
    """A vendor's figures: dense (no sparsity), by dtype, accumulating in fp32 where it matters."""

    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    memory_bytes: float | None  # None where it depends on what is built in
    document: str


def _sheet(
    *,
    half: float,
    float32: float,
    bfloat16: bool,
    terabytes: float,
    gigabytes: float | None,
    document: str,
) -> DataSheet:
    """`half` and `float32` in TFLOP/s; float32 without TF32, as torch multiplies by default."""
    flops = {"float16": half * TERA, "float32": float32 * TERA}
    if bfloat16:
        flops["bfloat16"] = half * TERA
    return DataSheet(
        flops_per_s=flops,
        bytes_per_s=terabytes * TERA,
        memory_bytes=None if gigabytes is None else gigabytes * GIGA,
        document=document,
    )


_ampere_on = partial(_sheet, bfloat16=True)
_before_ampere = partial(_sheet, bfloat16=False)
_h100 = "NVIDIA H100 Tensor Core GPU data sheet, sparse figures halved"
_a100 = "NVIDIA A100 Tensor Core GPU data sheet"
_apple = "Apple's announcement of the chip, GPU and unified memory"

# By the name that the driver gives.
DATA_SHEETS: dict[str, DataSheet] = {
    "NVIDIA H200": _ampere_on(
        half=989.5,
        float32=67.0,
        terabytes=4.8,
        gigabytes=141,
        document="NVIDIA H200 Tensor Core GPU data sheet, sparse figures halved",
    ),
    "NVIDIA H100 80GB HBM3": _ampere_on(
        half=989.5, float32=67.0, terabytes=3.35, gigabytes=80, document=f"{_h100} (SXM)"
    ),
    "NVIDIA H100 PCIe": _ampere_on(
        half=756.5, float32=51.0, terabytes=2.0, gigabytes=80, document=f"{_h100} (PCIe)"
    ),
    "NVIDIA H100 NVL": _ampere_on(
        half=835.5, float32=60.0, terabytes=3.9, gigabytes=94, document=f"{_h100} (NVL)"
    ),
    "NVIDIA A100-SXM4-80GB": _ampere_on(
        half=312.0, float32=19.5, terabytes=2.039, gigabytes=80, document=_a100
    ),
    "NVIDIA A100-SXM4-40GB": _ampere_on(
        half=312.0, float32=19.5, terabytes=1.555, gigabytes=40, document=_a100
    ),
    "NVIDIA A100-PCIE-40GB": _ampere_on(
        half=312.0, float32=19.5, terabytes=1.555, gigabytes=40, document=_a100
    ),
    "NVIDIA A100 80GB PCIe": _ampere_on(
        half=312.0, float32=19.5, terabytes=1.935, gigabytes=80, document=_a100
    ),
    "NVIDIA A10": _ampere_on(
        half=125.0, float32=31.2, terabytes=0.6, gigabytes=24, document="NVIDIA A10 data sheet"
    ),
    "NVIDIA L4": _ampere_on(
        half=121.0,
        float32=30.3,
        terabytes=0.3,
        gigabytes=24,
        document="NVIDIA L4 data sheet, sparse figures halved",
    ),
    "NVIDIA L40S": _ampere_on(
        half=362.0, float32=91.6, terabytes=0.864, gigabytes=48, document="NVIDIA L40S data sheet"
    ),
    "Tesla T4": _before_ampere(
        half=65.0, float32=8.1, terabytes=0.32, gigabytes=16, document="NVIDIA T4 data sheet"
    ),
    "Tesla V100-SXM2-16GB": _before_ampere(
        half=125.0, float32=15.7, terabytes=0.9, gigabytes=16, document="NVIDIA V100 data sheet"
    ),
    "Tesla V100-SXM2-32GB": _before_ampere(
        half=125.0, float32=15.7, terabytes=0.9, gigabytes=32, document="NVIDIA V100 data sheet"
    ),
    "NVIDIA GeForce RTX 3090": _ampere_on(
        half=71.0,
        float32=35.6,
        terabytes=0.936,
        gigabytes=24,
        document="NVIDIA Ampere GA102 architecture whitepaper",
    ),
    "NVIDIA GeForce RTX 4090": _ampere_on(
        half=165.2,
        float32=82.6,
        terabytes=1.008,
        gigabytes=24,
        document="NVIDIA Ada GPU architecture whitepaper",
    ),
    "NVIDIA A800-SXM4-80GB": _ampere_on(
        half=312.0, float32=19.5, terabytes=2.039, gigabytes=80, document=f"{_a100} (A800)"
    ),
    "NVIDIA GeForce RTX 5090": _ampere_on(
        half=209.5,
        float32=104.8,
        terabytes=1.792,
        gigabytes=32,
        document="NVIDIA RTX Blackwell GPU architecture whitepaper",
    ),
}

# Devices that no driver names in this way; for prediction alone.
OTHER_SHEETS: dict[str, DataSheet] = {
    "Jetson AGX Orin 64GB": _ampere_on(
        half=42.5,
        float32=5.3,
        terabytes=0.2048,
        gigabytes=64,
        document="NVIDIA Jetson AGX Orin technical brief, the GPU alone, sparse figures halved",
    ),
    "Apple M1": _ampere_on(half=2.6, float32=2.6, terabytes=0.068, gigabytes=16, document=_apple),
    "Apple M1 Max": _ampere_on(
        half=10.4, float32=10.4, terabytes=0.4, gigabytes=64, document=_apple
    ),
    "Apple M1 Ultra": _ampere_on(
        half=21.0, float32=21.0, terabytes=0.8, gigabytes=128, document=_apple
    ),
    "Apple M2 Ultra": _ampere_on(
        half=27.2, float32=27.2, terabytes=0.8, gigabytes=192, document=_apple
    ),
    "Apple M4 Max": _ampere_on(
        half=18.4,
        float32=18.4,
        terabytes=0.546,
        gigabytes=128,
        document="Apple states the bandwidth; FLOP/s of 40 cores x 128 lanes at 1.8 GHz",
    ),
    "Intel Xeon Platinum 8480+": DataSheet(
        flops_per_s={"bfloat16": 229.4 * TERA, "float16": 14.3 * TERA, "float32": 7.2 * TERA},
        bytes_per_s=307.2e9,
        memory_bytes=None,
        document="Intel Xeon Platinum 8480+: 56 cores at 2.0 GHz; AMX 2048 operations a cycle in"
        " bfloat16, AVX-512 128 in float16 and 64 in float32; eight channels of DDR5-4800",
    ),
}

# Short names to type, for prediction.
SHORT_NAMES = {
    "h200": "NVIDIA H200",
    "h100": "NVIDIA H100 80GB HBM3",
    "h100_sxm": "NVIDIA H100 80GB HBM3",
    "h100_pcie": "NVIDIA H100 PCIe",
    "h100_nvl": "NVIDIA H100 NVL",
    "a100": "NVIDIA A100-SXM4-80GB",
    "a100_80": "NVIDIA A100-SXM4-80GB",
    "a100_40": "NVIDIA A100-SXM4-40GB",
    "a100_pcie_80": "NVIDIA A100 80GB PCIe",
    "a100_pcie_40": "NVIDIA A100-PCIE-40GB",
    "a800": "NVIDIA A800-SXM4-80GB",
    "a10": "NVIDIA A10",
    "l4": "NVIDIA L4",
    "l40s": "NVIDIA L40S",
    "t4": "Tesla T4",
    "v100_16": "Tesla V100-SXM2-16GB",
    "v100_32": "Tesla V100-SXM2-32GB",
    "rtx3090": "NVIDIA GeForce RTX 3090",
    "rtx4090": "NVIDIA GeForce RTX 4090",
    "rtx5090": "NVIDIA GeForce RTX 5090",
    "orin": "Jetson AGX Orin 64GB",
    "m1": "Apple M1",
    "m1_max": "Apple M1 Max",
    "m1_ultra": "Apple M1 Ultra",
    "m2_ultra": "Apple M2 Ultra",
    "m4_max": "Apple M4 Max",
    "xeon_amx": "Intel Xeon Platinum 8480+",
}


def find_data_sheet(name: str) -> DataSheet | None:
    """The vendor's figures for the device of exactly that name; near names are other products."""
    return DATA_SHEETS.get(name)


def choose_data_sheet(name: str) -> tuple[str, DataSheet]:
    """The device that a short name, or the driver's name, stands for."""
    sheets = DATA_SHEETS | OTHER_SHEETS
    found = SHORT_NAMES.get(name.lower().replace("-", "_"), name)
    if found not in sheets:
        raise ConfigError("gpu", name, f"allowed is one of {', '.join(SHORT_NAMES)}")
    return found, sheets[found]
