"""Compiles what a generation calls for each token, and counts what was compiled and what ran so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.generation.configuration_utils import CompileConfig


class NeverCompiled(RuntimeError):
    """A generation that was to run compiled did not."""


class Compilation:
    """One network's compiled step: the library compiles and calls it, this counts.

    Everything compiled in this process is taken for the network's, since nothing else is.
    """

    def __init__(self, *, backend: str, mode: str | None) -> None:
        self.backend, self.mode = backend, mode
        self.num_graphs = 0  # compiled so far
        self.num_calls = 0  # of compiled graphs
        self.compile_s = 0.0
        self._begun = 0.0
        self._listen()

    def config(self) -> CompileConfig:
        """What the library's generate is given."""
        config = CompileConfig(backend=self._backend(), mode=self.mode or "default")
        # Without it the library leaves everything on a CPU as it is and does not say so.
        config._compile_all_devices = True
        return config

    def reset(self) -> None:
        """As if nothing had been compiled: what is made does not depend on earlier shapes."""
        torch._dynamo.reset()
        # Which forgets who listens, too.
        self._listen()
        self.num_graphs = self.num_calls = 0
        self.compile_s = 0.0

    def _listen(self) -> None:
        from torch._dynamo.callback import callback_handler

        # Shapes that keep changing would otherwise end in plain execution after some attempts.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        if self._start not in callback_handler.start_callbacks:
            callback_handler.register_start_callback(self._start)
            callback_handler.register_end_callback(self._end)

    def _start(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.compile_s += time.perf_counter() - self._begun

    def _backend(self) -> Callable[..., Any]:
        # A function, since the library copies its configuration deeply, and with an object's
        # method the counts would be kept by the copy.
        def compile_counted(graph: Any, inputs: Sequence[Any], **options: Any) -> Any:
            self.num_graphs += 1
            return self._counted(compile_graph(graph, inputs, backend=self.backend, **options))

        return compile_counted

    def _counted(self, compiled: Any) -> Any:
        def run(*arguments: Any) -> Any:
            self.num_calls += 1
            return compiled(*arguments)

        if hasattr(compiled, "_boxed_call"):
            run._boxed_call = compiled._boxed_call  # type: ignore[attr-defined]
        return run


def compile_graph(
    graph: Any, inputs: Sequence[torch.Tensor], *, backend: str, mode: str | None = None
) -> Any:
    """What torch.compile does with a graph, for a backend by its name."""
    if backend != "inductor":
        return torch._dynamo.lookup_backend(backend)(graph, [*inputs])
    from torch._inductor import list_mode_options
    from torch._inductor.compile_fx import compile_fx

    return compile_fx(graph, [*inputs], config_patches=list_mode_options(mode) if mode else {})
