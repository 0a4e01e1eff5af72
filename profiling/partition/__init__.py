"""Command: splits a model into parts, exports parts and runs them."""
