"""A loaded model: a network, its family, and the steps from a sample to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from profiling.errors import ConfigError, Unsupported
from profiling.machine.torch_device import synchronize
from profiling.models.family import Family, placed
from profiling.models.processing import Shown
from profiling.models.quantization import QuantizedLayers
from profiling.models.storage import place_of, stored_tensors
from profiling.samples.clips import read_frames
from profiling.samples.pictures import read_picture
from profiling.samples.prompt_length import NoSuchLength, fit_question
from profiling.samples.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sample with its pictures read and its prompt rendered, ready for the processor."""

    sample: Sample
    shown: Shown
    question: str
    prompt: str


def read_shown(sample: Sample) -> Shown:
    """The pictures of a sample, or the frames of its clip."""
    if sample.clip is None:
        return Shown(pictures=tuple(read_picture(path) for path in sample.pictures))
    return Shown(frames=tuple(read_frames(sample.clip)), fps=sample.clip.fps)


@dataclass(kw_only=True)
class Model:
    """A network that answers questions about pictures, whatever its family."""

    network: Any
    family: Family
    device: torch.device
    dtype: torch.dtype
    stored_values: bool
    # Layers whose weights are quantized; None where none are.
    quantized: QuantizedLayers | None = None

    def prepare(self, sample: Sample, prompt_len: int | None) -> Prepared:
        question = self.family.processing.escape_special_tokens(sample.request)
        if prompt_len is not None:
            try:
                question = fit_question(
                    question, prompt_len, self.family.processing.question_token_ends
                )
            except NoSuchLength as error:
                raise ConfigError("prompt_len", prompt_len, str(error)) from None
        shown = read_shown(sample)
        return Prepared(
            sample=sample,
            shown=shown,
            question=question,
            prompt=self.family.processing.render_shown(question, shown),
        )

    def encode(self, batch: Sequence[Prepared], side: int | None) -> dict[str, Tensor]:
        """The processor's tensors for a batch, still on the CPU; None: in its own sizes."""
        shown, prompts = [b.shown for b in batch], [b.prompt for b in batch]
        inputs = self.family.processing.encode_shown(shown, prompts, side)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        self.family.layout.check_batch(tensors)
        return tensors

    def place(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return placed(inputs, self.device, self.dtype)

    def generate(
        self,
        inputs: Mapping[str, Tensor],
        *,
        side: int | None,
        length: int,
        exact: bool,
        **options: Any,
    ) -> Tensor:
        """New tokens [B, T]: `length` of them, or up to so many where the model stops by itself."""
        self.check_length(int(inputs["input_ids"].shape[1]), length if exact else 1)
        sized = {} if side is None else self.family.layout.generate_options(side)
        with torch.inference_mode():
            generated = self.network.generate(
                **inputs,
                **sized,
                **options,
                max_new_tokens=length,
                min_new_tokens=length if exact else None,
                do_sample=False,
            )
        return self.family.layout.new_tokens(generated, inputs)

    def check_length(self, prompt: int, length: int) -> None:
        """Refuse positions that were not learned: some frameworks would read others in silence."""
        longest = self.family.layout.longest
        # The last new token is not read.
        if longest is not None and prompt + length - 1 > longest:
            raise Unsupported(
                f"the model has learned positions for {longest} tokens, and a prompt of {prompt}"
                f" with {length} new tokens needs {prompt + length - 1}"
            )

    def parts(self, *, absorbed: frozenset[str] = frozenset()) -> dict[str, list[nn.Module]]:
        """The modules of each part; none for a part whose work another one does."""
        return self.family.layout.parts.modules(self.network, absorbed=absorbed)

    def count_new_tokens(self, tokens: Tensor) -> list[int]:
        """How many tokens each row has up to its own end, the end token counted."""
        ends = self.network.generation_config.eos_token_id
        listed = [ends] if isinstance(ends, int) else list(ends or [])
        stops = torch.isin(tokens, torch.tensor(listed, device=tokens.device))
        reached = stops.any(dim=1)
        first = stops.int().argmax(dim=1) + 1
        return torch.where(reached, first, tokens.shape[1]).tolist()  # type: ignore[no-any-return]

    def parameter_bytes(self) -> int:
        """What the weights and buffers take in memory; what is shared is counted once."""
        tensors = stored_tensors(self.network)
        sizes = {place_of(t): t.numel() * t.element_size() for t in tensors}
        return sum(sizes.values())

    def synchronize(self) -> None:
        synchronize(self.device)
