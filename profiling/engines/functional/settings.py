"""What the settings of the functional engine may be, known before a library is imported."""

from __future__ import annotations

from profiling.points.settings import Settings

NUMPY, TORCH, JAX = "numpy", "torch", "jax"
LIBRARIES = (NUMPY, TORCH, JAX)


def check(settings: Settings) -> None:
    """Refuse settings that cannot be right, with one line that names the key."""
    settings.require_one_of("library", LIBRARIES)
    settings.require_whole("length_multiple", at_least=1, at_most=4096)
    settings.require_beside("length_multiple", "library", [JAX])
