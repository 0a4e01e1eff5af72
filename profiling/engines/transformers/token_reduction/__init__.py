"""Leaving out visual tokens of a prompt, before the decoder or behind some of its layers."""
