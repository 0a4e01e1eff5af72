"""The plain model: the dtype that the checkpoint names and the library's defaults."""

from __future__ import annotations

from profiling.engines.transformers.optimizations.optimization import Optimization


class Baseline(Optimization):
    """Changes nothing; everything else is compared with it."""

    changes = frozenset()
    is_plain = True


OPTIMIZATION = Baseline
