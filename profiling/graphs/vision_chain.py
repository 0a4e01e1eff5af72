"""ONNX Runtime instead of a vision part: sessions, and a module with the part's signature."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from profiling.files import LARGEST_SETTINGS, read_json
from profiling.models.family import Family
from profiling.models.model import Model
from profiling.models.stand_ins import VisionReplacement
from profiling.parts.artifacts import digest_all, find_difference
from profiling.parts.reduced import replace_parts
from profiling.runtimes.graph_profile import GraphProfile
from profiling.runtimes.onnxruntime import SessionStart, find_provider, session_options
from profiling.runtimes.providers import CUDA_PROVIDER
from profiling.runtimes.runtime import Program

CHECK_FILE = "vision_model.check.json"
# The runtime's numbers for what a tensor holds; numpy has none for bfloat16.
_ELEMENTS = {
    torch.float32: 1,
    torch.int64: 7,
    torch.bool: 9,
    torch.float16: 10,
    torch.bfloat16: 16,
}
_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
}


class Chain:
    """Sessions run one after another, each on the output of the previous one, on one device."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        threads: int,
        provider: str,
        provider_options: Mapping[str, Any],
        device: torch.device,
        optimized: bool,
    ) -> None:
        self.device = device if provider == CUDA_PROVIDER else torch.device("cpu")
        given = dict(provider_options)
        if provider == CUDA_PROVIDER:
            # Use torch's stream, so that inputs are complete and times are right.
            stream = torch.cuda.current_stream(device).cuda_stream
            given = {"device_id": device.index or 0, "user_compute_stream": stream, **given}
        options = session_options(threads)
        if optimized:
            # The graph is already optimized.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.starts = [
            SessionStart(path=path, options=options, provider=provider, provider_options=given)
            for path in paths
        ]
        self.sessions = [one.start() for one in self.starts]
        first = self.sessions[0].get_inputs()[0]
        self.dtype, self.rank = _DTYPES[first.type], len(first.shape)

    def run(self, feeds: Mapping[str, Tensor]) -> Tensor:
        """The embeddings [tokens, width] for `pixel_values` and the other inputs by name."""
        placed = {name: value.to(self.device).contiguous() for name, value in feeds.items()}
        pixels = placed["pixel_values"].to(self.dtype)
        placed["pixel_values"] = pixels.flatten(0, pixels.dim() - self.rank)
        made: Any = None
        for session in self.sessions:
            made = self._run_one(session, placed, made)
        embeddings: Tensor = torch.from_dlpack(made)
        return embeddings

    @contextmanager
    def profiled(self) -> Iterator[Sequence[GraphProfile]]:
        """While it is open, runs are under the runtime's own profiler."""
        # One session after the other: two at once would hold the weights twice.
        self.sessions = []
        try:
            with ExitStack() as open_ones:
                profiles = []
                for start in self.starts:
                    session, profile = open_ones.enter_context(start.profiled())
                    self.sessions.append(session)
                    profiles.append(profile)
                del session
                yield profiles
                self.sessions = []
        finally:
            self.sessions = [one.start() for one in self.starts]

    def _run_one(self, session: Any, placed: Mapping[str, Tensor], made: Any) -> Any:
        binding = session.io_binding()
        kind, index = self.device.type, self.device.index or 0
        for wanted in session.get_inputs():
            value = placed.get(wanted.name)
            if value is None:
                binding.bind_ortvalue_input(wanted.name, made)
            else:
                shape, element = tuple(value.shape), _ELEMENTS[value.dtype]
                binding.bind_input(wanted.name, kind, index, element, shape, value.data_ptr())
        binding.bind_output(session.get_outputs()[0].name, kind, index)
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]


class ProgramVision:
    """A whole vision graph as a program, which takes arrays."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, feeds: Mapping[str, Tensor]) -> Tensor:
        """The embeddings [tokens, width] for `pixel_values` and the other inputs by name."""
        arrays = {name: self._array(name, feeds[name]) for name in self.program.inputs}
        (embeddings,) = self.program.run(arrays)
        return torch.from_numpy(embeddings)

    def profiled(self) -> AbstractContextManager[Sequence[GraphProfile]]:
        return self.program.profiled()

    def _array(self, name: str, value: Tensor) -> Any:
        flat = value.flatten(0, value.dim() - self.program.ranks[name])
        dtype = getattr(torch, self.program.dtypes[name])
        return flat.to("cpu", dtype).contiguous().numpy()


class OnnxVision(VisionReplacement):
    """The vision part and the projector in one; what comes behind is handed the embeddings."""

    def __init__(
        self,
        *,
        chain: Chain | ProgramVision,
        family: Family,
        stand_in: nn.Module,
        dtype: torch.dtype,
        held_bytes: int,
    ) -> None:
        super().__init__(stand_in)
        self.chain, self.family = chain, family
        self.dtype = dtype
        # The runtime's memory counts as the model's, with its size on disk.
        held = torch.empty(held_bytes, dtype=torch.uint8, device="meta")
        self.register_buffer("held", held, persistent=False)

    def profiled(self) -> AbstractContextManager[Sequence[GraphProfile]]:
        return self.chain.profiled()

    @torch.compiler.disable
    def forward(self, given: Tensor | None = None, **named: Any) -> Any:
        pixels: Tensor = named["pixel_values"] if given is None else given
        extras = self.family.layout.tower_inputs(named)
        embeddings = self.chain.run({"pixel_values": pixels, **extras})
        pictures = self.family.layout.group_by_picture(embeddings, len(pixels))
        return self.stand_in(pictures.to(pixels.device, self.dtype))


def put_vision(model: Model, vision: nn.Module) -> None:
    """The module in the place of the vision part, whose values are let go of."""
    replacements = model.family.layout.stand_ins(model.dtype)
    replacements[model.family.layout.parts.vision] = vision
    replace_parts(model.network, replacements)
    gc.collect()


def load_vision(
    path: Path,
    *,
    model: Model,
    threads: int,
    provider: str | None,
    provider_options: Mapping[str, Any],
) -> OnnxVision:
    """The graph as a module that replaces the model's vision part (by `put_vision`).

    A graph that was written in parts runs as a chain.
    """
    chain = Chain(
        files_of(path),
        threads=threads,
        provider=find_provider(provider, str(model.device)),
        provider_options=provider_options,
        device=model.device,
        optimized="optimized" in read_check(path),
    )
    stand_in: Any = model.family.layout.stand_ins(model.dtype)[model.family.layout.parts.vision]
    return OnnxVision(
        chain=chain,
        family=model.family,
        stand_in=stand_in,
        dtype=model.dtype,
        held_bytes=sum(file.stat().st_size for file in path.parent.glob("vision_model*.data")),
    )


def files_of(path: Path) -> list[Path]:
    """The files to run in order, from the record of the export."""
    return [path.with_name(name) for name in read_check(path).get("parts", [])] or [path]


def digest_graph(folder: Path) -> dict[str, str]:
    """The digests of an export's graphs and weights, by name."""
    return digest_all(folder, _list_graph(folder))


def find_change(path: Path) -> str | None:
    """How an export's files differ from what was checked; None where they do not."""
    try:
        known = read_check(path).get("sha256")
    except (OSError, ValueError, AttributeError):
        known = None
    if not isinstance(known, dict):
        return f"{CHECK_FILE} has no digests to verify it with"
    return find_difference(path.parent, known, _list_graph(path.parent))


def _list_graph(folder: Path) -> list[Path]:
    return [path for path in folder.glob("vision_model*") if path.name != CHECK_FILE]


def read_check(path: Path) -> dict[str, Any]:
    """The record beside an export; empty if there is none."""
    return read_record(path.with_name(CHECK_FILE))


def read_record(record: Path) -> dict[str, Any]:
    """What a file says of exported graphs; empty if there is no such file."""
    if not record.is_file():
        return {}
    content: dict[str, Any] = read_json(record, at_most=LARGEST_SETTINGS)
    return content
