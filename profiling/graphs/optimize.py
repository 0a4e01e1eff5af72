"""Stores an exported vision graph as the runtime optimizes it, to save that at each start."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch

from profiling.graphs.check import ExportFailed, rewriting
from profiling.graphs.layouts import SMALL_BYTES, delete_file, values_of
from profiling.models.model import Model
from profiling.runtimes.onnxruntime import find_provider, session_options, start_session


def optimize_vision(model: Model, path: Path, *, provider: str | None) -> None:
    """Optimize a graph in place: fold and fuse operators, some into the runtime's own.

    The result is for this provider only.
    """
    chosen = find_provider(provider, str(model.device))
    with (
        rewriting(model, path, provider=provider, optimized=chosen),
        # The graph refers to its weights by file name, so both are written with their final names.
        TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder,
    ):
        made = _write_optimized(path, Path(folder) / path.name, chosen)
        delete_file(path)
        for one in (values_of(made), made):
            if one.is_file():
                one.replace(path.with_name(one.name))


def _write_optimized(path: Path, made: Path, provider: str) -> Path:
    options = session_options(torch.get_num_threads())
    # Higher levels change layouts for one processor; such a graph suits no other.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(made)
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{prefix}file_name", values_of(made).name)
    options.add_session_config_entry(f"{prefix}min_size_in_bytes", str(SMALL_BYTES))
    start_session(path, options, provider=provider, provider_options={})
    if not made.is_file():
        raise ExportFailed(f"the runtime did not write {made.name}: the file was deleted")
    return made
