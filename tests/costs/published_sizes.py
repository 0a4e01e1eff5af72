"""Sizes of the public checkpoints, from counts that were made without this project."""

from __future__ import annotations

PARAMETERS = {
    "blip2_opt": 3_744_761_856,
    "blip2_t5": 3_942_446_592,
    "fuyu": 9_408_238_592,
    "llava": 7_063_427_072,
    "qwen25vl": 3_754_622_976,
}

# With 50 text tokens: family, side of the picture, prompt tokens, phases, GFLOP.
GFLOP: list[tuple[str, int, int, tuple[str, ...], float]] = [
    ("qwen25vl", 224, 64 + 50, ("vision", "projector"), 332),
    ("qwen25vl", 448, 256 + 50, ("vision", "projector"), 1343),
    ("qwen25vl", 224, 64 + 50, ("prefill",), 637),
    ("qwen25vl", 448, 256 + 50, ("prefill",), 1726),
    ("llava", 336, 576 + 50, ("vision",), 382),
    ("llava", 336, 576 + 50, ("prefill",), 8314),
    ("blip2_opt", 224, 32 + 50, ("vision",), 521),
    ("blip2_opt", 448, 32 + 50, ("vision",), 2250),
    ("blip2_opt", 224, 32 + 50, ("prefill",), 415),
    ("fuyu", 240, 8 * 9 + 2 + 50, ("prefill",), 1809),
    ("fuyu", 450, 15 * 16 + 2 + 50, ("prefill",), 4285),
]
