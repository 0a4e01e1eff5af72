"""What may be chosen about a graph, known without importing what makes or runs one."""

from __future__ import annotations

LAYOUTS = ("single", "parts", "half")
# What weights may be stored in: whole, half precision, or quantized.
WHOLE = "float32"
PRECISIONS = (WHOLE, "float16", "bfloat16", "int8", "int4")
