"""What stores weights in fewer bits: two libraries, and the layers of this project."""

from __future__ import annotations

BITSANDBYTES, TORCHAO = QUANTIZERS = ("bitsandbytes", "torchao")
# Layers of this project, which make the weight in floating point for each product.
REFERENCE = "reference"
