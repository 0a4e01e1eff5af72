"""Splits a checkpoint into parts and loads parts."""
