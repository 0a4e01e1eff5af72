"""An exported vision graph as the runtime rewrites it, kept for it not to do so at each start."""

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
    """Rewrite a graph in place: operators folded and fused, some into the runtime's own.

    It is then for that provider and nothing else.
    """
    chosen = find_provider(provider, str(model.device))
    with (
        rewriting(model, path, provider=provider, optimized=chosen),
        # The graph names the file of its values, so both get their names here and are moved.
        TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder,
    ):
        made = _write_optimized(path, Path(folder) / path.name, chosen)
        delete_file(path)
        for one in (values_of(made), made):
            if one.is_file():
                one.replace(path.with_name(one.name))


def _write_optimized(path: Path, made: Path, provider: str) -> Path:
    options = session_options(torch.get_num_threads())
    # Further ones lay values out for one processor, which are no model for another.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(made)
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{prefix}file_name", values_of(made).name)
    options.add_session_config_entry(f"{prefix}min_size_in_bytes", str(SMALL_BYTES))
    start_session(path, options, provider=provider, provider_options={})
    if not made.is_file():
        raise ExportFailed(f"the runtime wrote no {made.name}: the file was deleted")
    return made
