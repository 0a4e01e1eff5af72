"""Optimizations, one file each: what is done to a model before and after it is loaded."""
