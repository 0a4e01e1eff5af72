"""One colour and one hatch per phase, the same in every figure."""

from __future__ import annotations

# Okabe and Ito's colours are distinct in every common colour blindness, the hatches in grey print.
COLOURS = {
    "preprocess": "#E69F00",
    "transfer": "#F0E442",
    "vision": "#0072B2",
    "projector": "#56B4E9",
    "prefill": "#D55E00",
    "decode": "#009E73",
    "other": "#999999",
}
HATCHES = {
    "preprocess": "///",
    "transfer": "|||",
    "vision": "",
    "projector": "xxx",
    "prefill": "\\\\",
    "decode": "---",
    "other": "",
}
MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
