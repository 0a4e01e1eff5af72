"""Inputs and outputs of module calls: capturing, storing, replaying, judging functions by them."""
