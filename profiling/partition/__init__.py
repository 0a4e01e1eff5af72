"""Cutting a model into parts, exporting parts, running parts."""
