"""Draws the embedded pictures and trains the embedded checkpoints."""
