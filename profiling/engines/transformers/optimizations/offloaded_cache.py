"""Keys and values in the host's memory; the GPU holds those of the layers at work."""

from __future__ import annotations

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.optimization import Optimization
from profiling.errors import Unsupported
from profiling.models.network import Layout
from profiling.points.point import Point
from profiling.runtimes.offered import TEXT


class OffloadedCache(Optimization):
    """The library fetches the next layer's while one computes."""

    changes = frozenset({TEXT})
    uncertain = "the cache is counted into the device's memory; most of it is in the host's"

    def check_layout(self, layout: type[Layout]) -> None:
        if layout.encoder_decoder:
            raise Unsupported("the library offloads no cache of an encoder-decoder")

    def check_point(self, point: Point) -> None:
        if "compile" in point.optimization:
            raise Unsupported("compile needs a cache of fixed length, which is not offloaded")

    def check(self, point: Point) -> None:
        if not point.device.startswith("cuda"):
            raise Unsupported(f"there is no GPU to offload from: the device is {point.device}")

    def apply(self, loaded: LoadedModel) -> None:
        loaded.cache_options = {"cache_implementation": "offloaded"}


OPTIMIZATION = OffloadedCache
