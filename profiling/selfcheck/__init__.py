"""Compares every instrument with known answers: python -m profiling.selfcheck."""
