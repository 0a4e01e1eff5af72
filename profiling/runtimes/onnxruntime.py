"""ONNX Runtime: providers, options, sessions and programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from profiling.runtimes.graph_profile import GraphProfile
from profiling.runtimes.providers import CPU_PROVIDER, CUDA_PROVIDER
from profiling.runtimes.runtime import Arrays, Program, Runtime, RuntimeAbsent

_ERRORS_ONLY = 3
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class ProviderAbsent(RuntimeAbsent):
    """The runtime cannot use an execution provider here: one line that says which it can."""


def find_provider(provider: str | None, device: str) -> str:
    """The provider that was asked for, or the one of the device; never another instead."""
    chosen = provider or (CUDA_PROVIDER if device.startswith("cuda") else CPU_PROVIDER)
    present = onnxruntime.get_available_providers()
    if chosen in present:
        return chosen
    raise ProviderAbsent(
        f"{chosen} is not in the installed onnxruntime {onnxruntime.__version__}, which has"
        f" {', '.join(present)}"
    )


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that leaves the cores to other libraries between its runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that wait by spinning take the cores from torch in the same process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its plan holds more memory than it saves time where sizes change.
    options.enable_mem_pattern = False
    return options


def start_session(
    model: Path | bytes,
    options: onnxruntime.SessionOptions,
    *,
    provider: str,
    provider_options: Mapping[str, Any],
) -> onnxruntime.InferenceSession:
    """A session on the provider that was asked for, and on no other."""
    given = {name: str(value) for name, value in provider_options.items()}
    session = onnxruntime.InferenceSession(model, options, providers=[(provider, given)])
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise ProviderAbsent(
            f"{provider} is installed and did not start; the runtime offers"
            f" {', '.join(session.get_providers())} instead"
        )
    return session


@dataclass(frozen=True, kw_only=True)
class SessionStart:
    """How the session of a graph is started, at first and again."""

    path: Path
    options: onnxruntime.SessionOptions
    provider: str
    provider_options: Mapping[str, Any]

    def start(self) -> onnxruntime.InferenceSession:
        return start_session(
            self.path,
            self.options,
            provider=self.provider,
            provider_options=self.provider_options,
        )

    @contextmanager
    def profiled(self) -> Iterator[tuple[onnxruntime.InferenceSession, GraphProfile]]:
        """A session under the runtime's profiler, and the profile, which is filled at the end."""
        found = GraphProfile()
        with tempfile.TemporaryDirectory() as folder:
            options = self.options
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "profile"))
            try:
                session = self.start()
            finally:
                options.enable_profiling = False
            began_ns = session.get_profiling_start_time_ns()
            try:
                yield session, found
            finally:
                written = Path(session.end_profiling())
            found.read(written, graph=self.path, began_ns=began_ns)


class SessionProgram(Program):
    """A graph in a session of the runtime."""

    def __init__(self, start: SessionStart) -> None:
        self._start = start
        session = start.start()
        given = session.get_inputs()
        self.inputs = [value.name for value in given]
        self.outputs = [value.name for value in session.get_outputs()]
        self.dtypes = {value.name: _DTYPES[value.type] for value in given}
        self.ranks = {value.name: len(value.shape) for value in given}
        self._run = session.run

    def run(self, feeds: Arrays) -> list[Any]:
        made: list[Any] = self._run(None, feeds)
        return made

    @contextmanager
    def profiled(self) -> Iterator[Sequence[GraphProfile]]:
        # One session after the other: two at once would hold the weights twice.
        del self._run
        try:
            with self._start.profiled() as (session, profile):
                self._run = session.run
                yield [profile]
                del self._run, session
        finally:
            self._run = self._start.start().run


class OnnxRuntime(Runtime):
    """ONNX Runtime on any execution provider that the installed package has."""

    @classmethod
    def check(cls, device: str, settings: Mapping[str, Any]) -> None:
        find_provider(settings["provider"], device)

    def open(self, path: Path) -> SessionProgram:
        options = session_options(self.threads)
        provider = find_provider(self.settings["provider"], self.device)
        given = dict(self.settings["provider_options"] or {})
        if provider == CUDA_PROVIDER:
            given = {"device_id": int(self.device.partition(":")[2] or 0), **given}
        return SessionProgram(
            SessionStart(path=path, options=options, provider=provider, provider_options=given)
        )

    def computes_in(self, stored: str) -> str:
        # Weights in half precision are converted when a session starts; int8 products are integer.
        return "int8" if stored == "int8" else "float32"


RUNTIME = OnnxRuntime
