"""Points run by the families' plain functions, in NumPy, PyTorch or JAX."""
