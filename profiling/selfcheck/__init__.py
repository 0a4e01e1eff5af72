"""Every instrument held against answers that are known: python -m profiling.selfcheck."""
