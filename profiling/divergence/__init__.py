"""How far the logits of an engine are from the plain model's, and whether rounding explains it."""
