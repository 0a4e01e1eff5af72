"""FLOPs and bytes of a model, counted without running it."""
