"""Names of execution providers, known without importing a runtime."""

from __future__ import annotations

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
