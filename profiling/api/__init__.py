"""The public Python API, whose names `profiling` itself offers; docs/python_api.md explains it."""

from __future__ import annotations

from profiling.api.comparing import Pair, compare, measure_pair
from profiling.api.loaded import Results, load
from profiling.api.measuring import run
from profiling.api.predicting import predict

__all__ = ["Pair", "Results", "compare", "load", "measure_pair", "predict", "run"]
