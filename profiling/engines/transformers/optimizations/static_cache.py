"""Keys and values in memory that is laid out before a generation, as long as it will get."""

from __future__ import annotations

from profiling.engines.transformers.compilation import Compilation
from profiling.engines.transformers.fixed_cache import FixedCache
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.runtimes.offered import TEXT


class StaticCache(Optimization):
    """Nothing is compiled; with CUDA graphs a step is recorded once and then replayed."""

    changes = frozenset({TEXT})

    def __init__(self, *, kind: str, order: int, cuda_graphs: bool) -> None:
        super().__init__(kind=kind, order=order)
        self.cuda_graphs = cuda_graphs

    def check_point(self, point: Point) -> None:
        if self.cuda_graphs and "compile" in point.optimization:
            raise Unsupported("compile records CUDA graphs itself: leave out cuda_graphs")

    def check(self, point: Point) -> None:
        if self.cuda_graphs and not point.device.startswith("cuda"):
            raise Unsupported(f"CUDA graphs need a GPU, and the device is {point.device}")

    def apply(self, loaded: LoadedModel) -> None:
        compilation = Compilation(backend="cudagraphs", mode=None) if self.cuda_graphs else None
        loaded.fixed_cache = FixedCache(compilation=compilation)


OPTIMIZATION = StaticCache
