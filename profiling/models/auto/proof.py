"""Proof that the parts of a network are what they are taken for, from passes over pictures.

Another picture has to change what the vision part returns and what the decoder is first called
with; another question must not change what the vision part returns. No part that prepares the
prompt is called again for a later token, and no matrix product lies outside of the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from profiling.errors import ConfigError, Unsupported, shorten
from profiling.machine.torch_device import is_out_of_memory
from profiling.models.auto.parts_rule import is_within, narrow
from profiling.models.model import Model
from profiling.models.network import Parts
from profiling.models.processing import Shown

_QUESTIONS = ("what is here", "which of the things in the middle is the larger one")
_SHAPE = (320, 240)
_BLOCKS = (6, 8, 3)
# Pixels that the network gets, over those of the side that was asked for.
_LEAST, _MOST = 0.5, 2.0
# Of the range of the logits: how far rows of a batch may be from the same prompts alone.
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 5e-2
_TOKENS = 3


def prove_parts(model: Model, parts: Parts, *, side: int | None) -> Parts:
    """The parts that a pass calls, proved; Unsupported where one is not what it is taken for."""
    first, other, asked = (
        _encode(model, [_picture(seed)], [question], side)
        for seed, question in ((0, _QUESTIONS[0]), (1, _QUESTIONS[0]), (0, _QUESTIONS[1]))
    )
    _check_inputs(model, first, side)
    parts = _prove_calls(model, parts, first, side)
    seen = _see(model, parts, first)
    _prove_cover(seen)
    _prove_picture(parts, seen, _see(model, parts, other))
    _prove_question(parts, seen, _see(model, parts, asked))
    return parts


def prove_pictures(model: Model, parts: Parts, *, side: int | None, count: int) -> None:
    """Raise Unsupported where the last of several pictures does not reach the decoder."""
    processing = model.family.processing
    prompt = processing.render_several(_QUESTIONS[0], count)
    shown = [
        Shown(pictures=tuple(_picture(seed) for seed in (*range(count - 1), last)))
        for last in (count - 1, count)
    ]
    seen = []
    for one in shown:
        made = processing.encode_shown([one], [prompt], side)
        tensors = {name: value for name, value in made.items() if isinstance(value, Tensor)}
        seen.append(_see(model, parts, model.place(tensors)))
    inside = is_within(parts.vision, parts.language)
    ones, others = ([s.logits] if inside else s.taken for s in seen)
    if not _differ(ones, others):
        raise Unsupported(f"model=auto: the last of {count} pictures does not reach the decoder")


def _picture(seed: int) -> Image.Image:
    blocks = numpy.random.default_rng(seed).integers(0, 256, _BLOCKS, dtype=numpy.uint8)
    return Image.fromarray(blocks).resize(_SHAPE, Image.Resampling.NEAREST)


def _encode(
    model: Model, pictures: list[Image.Image], questions: list[str], side: int | None
) -> dict[str, Tensor]:
    processing = model.family.processing
    prompts = [processing.render(question) for question in questions]
    try:
        made = (
            processing.encode_native(pictures, prompts)
            if side is None
            else processing.encode(pictures, prompts, side)
        )
    except (Unsupported, ConfigError):
        raise
    except Exception as error:  # each processor has its own way to fail
        raise Unsupported(f"{_sized(side)}the processor fails: {_describe(error)}") from error
    return model.place({name: value for name, value in made.items() if isinstance(value, Tensor)})


def _sized(side: int | None) -> str:
    return "model=auto: " if side is None else f"img_size={side}: "


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {shorten(' '.join(str(error).split()))}"


def _check_inputs(model: Model, inputs: Mapping[str, Tensor], side: int | None) -> None:
    for name in ("input_ids", "attention_mask"):
        if name not in inputs:
            raise Unsupported(f"model=auto: the processor gives no {name}")
    processing: Any = model.family.processing
    if side is None:
        return
    share = processing.count_pixels(inputs) / side**2
    if not _LEAST <= share <= _MOST:
        raise Unsupported(
            f"img_size={side}: the network gets {share:.1f} times the pixels of that side,"
            " because the processor cuts tiles or has a size of its own"
        )


# Which modules a generation calls, before and after the first token


def _prove_calls(
    model: Model, parts: Parts, inputs: Mapping[str, Tensor], side: int | None
) -> Parts:
    try:
        with _watch_calls(model.network, parts.head) as calls:
            _generate(model, inputs, length=2)
    except Exception as error:  # and so has each network; too little memory says nothing of it
        if is_out_of_memory(error):
            raise
        raise Unsupported(f"{_sized(side)}the network fails: {_describe(error)}") from error
    found = narrow(parts, calls.before)
    for name, path in _preparing(found):
        if path in calls.after:
            raise Unsupported(f"the {name} {path} is called again for a later token")
    if found.language not in calls.after:
        raise Unsupported(f"the decoder {found.language} is not called for a later token")
    return found


@dataclass
class _Calls:
    """Paths of modules as they are entered."""

    before: dict[str, None] = field(default_factory=dict)
    after: set[str] = field(default_factory=set)
    passed: bool = False

    def enter(self, path: str) -> None:
        if self.passed:
            self.after.add(path)
        else:
            self.before[path] = None


@contextmanager
def _watch_calls(network: Any, head: str) -> Iterator[_Calls]:
    calls, handles = _Calls(), []
    for path, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: calls.enter(path)))

    def pass_head(*_: Any) -> None:
        calls.passed = True

    handles.append(network.get_submodule(head).register_forward_hook(pass_head))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _preparing(parts: Parts) -> Iterator[tuple[str, str]]:
    """The parts that are at work before the first token only, by what they are called."""
    for path in (parts.vision, *parts.more_vision):
        yield "vision part", path
    for path in parts.projector:
        yield "projector", path
    if parts.text_encoder is not None:
        yield "text encoder", parts.text_encoder


# What the parts take and return


class _Seen(NamedTuple):
    """The first pass of a prompt: tensors that a part gave or got, and products outside."""

    given: dict[str, list[Tensor]]
    taken: list[Tensor]  # by the decoder
    logits: Tensor
    head_width: int
    outside: list[str]


def _see(model: Model, parts: Parts, inputs: Mapping[str, Tensor]) -> _Seen:
    network, watch = model.network, _Watch(parts)
    handles = [h for path, module in network.named_modules() for h in watch.hooks(path, module)]
    try:
        logits, _ = _generate(model, inputs, length=1)
    finally:
        for handle in handles:
            handle.remove()
    return _Seen(watch.given, watch.taken, logits[0], watch.head_width, watch.outside)


class _Watch:
    """Hooks on the parts, and on whatever multiplies matrices."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.given: dict[str, list[Tensor]] = {path: [] for _, path in _preparing(parts)}
        self.taken: list[Tensor] = []
        self.outside: list[str] = []
        self.head_width = 0
        self._open = 0

    def hooks(self, path: str, module: nn.Module) -> Iterator[Any]:
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            yield module.register_forward_pre_hook(lambda *_: self._multiply(path))
        if path in self.given:
            yield module.register_forward_pre_hook(self._enter, prepend=True)
            yield module.register_forward_hook(lambda _, __, out: self._leave(path, out))
        if path == self.parts.language:
            yield module.register_forward_pre_hook(self._decode, prepend=True, with_kwargs=True)
        if path == self.parts.head:
            yield module.register_forward_hook(lambda _, __, out: self._finish(out))

    def _multiply(self, path: str) -> None:
        if self._open == 0:
            self.outside.append(path)

    def _enter(self, *_: Any) -> None:
        self._open += 1

    def _leave(self, path: str, output: Any) -> None:
        self._open -= 1
        self.given[path] += [tensor.clone() for tensor in _tensors(output)]

    def _decode(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self._open += 1
        if not self.taken:
            self.taken = [tensor.clone() for tensor in _tensors((args, kwargs))]

    def _finish(self, output: Any) -> None:
        self._open -= 1
        self.head_width = int(output.shape[-1])


def _tensors(found: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module takes or returns."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _tensors(value)
    elif isinstance(found, (tuple, list)):
        for value in found:
            yield from _tensors(value)


def _prove_cover(seen: _Seen) -> None:
    if seen.outside:
        raise Unsupported(f"{seen.outside[0]} multiplies matrices outside of every part")
    if seen.head_width != seen.logits.shape[-1]:
        raise Unsupported(
            f"the head returns {seen.head_width} values for a token, and there are"
            f" {seen.logits.shape[-1]} tokens"
        )


def _prove_picture(parts: Parts, seen: _Seen, other: _Seen) -> None:
    for name, path in _preparing(parts):
        if not _differ(seen.given[path], other.given[path]):
            raise Unsupported(f"the {name} {path} returns the same for another picture")
    # What holds the vision part is given the pixels themselves.
    inside = is_within(parts.vision, parts.language)
    ones, others = ([s.logits] if inside else s.taken for s in (seen, other))
    if not _differ(ones, others):
        told = "other pictures do not change what it is called with"
        raise Unsupported(f"the decoder {parts.language} does not use the picture: {told}")


def _prove_question(parts: Parts, seen: _Seen, asked: _Seen) -> None:
    for path in (parts.vision, *parts.more_vision):
        if _differ(seen.given[path], asked.given[path]):
            raise Unsupported(f"the vision part {path} depends on the question")


def _differ(ones: list[Tensor], others: list[Tensor]) -> bool:
    if [one.shape for one in ones] != [other.shape for other in others]:
        return True
    return any(not torch.equal(one, other) for one, other in zip(ones, others, strict=True))


# A batch, and each of its prompts alone


def compare_rows(model: Model, *, side: int | None) -> str | None:
    """Why a batch of unequal prompts is answered otherwise than each alone; None: it is not."""
    pictures = [_picture(0), _picture(1)]
    try:
        both, tokens = _generate(
            model, _encode(model, pictures, list(_QUESTIONS), side), length=_TOKENS
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"batch_size: a batch of unequal prompts fails: {_describe(error)}"
    for row in range(len(pictures)):
        alone, alone_tokens = _generate(
            model, _encode(model, [pictures[row]], [_QUESTIONS[row]], side), length=_TOKENS
        )
        off = _distance(
            [step[row] for step in both], [step[0] for step in alone], tokens[row], alone_tokens[0]
        )
        if off > _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):
            return (
                f"batch_size: in a batch of prompts of different lengths the logits of this"
                f" network are {off:.1%} of their range off those of a prompt alone"
            )
    return None


def _distance(ones: list[Tensor], others: list[Tensor], tokens: Tensor, alone: Tensor) -> float:
    """The largest distance over the range of the logits, as long as the tokens are the same."""
    largest = 0.0
    for one, other, token, expected in zip(ones, others, tokens, alone, strict=False):
        finite = torch.isfinite(other)
        span = other[finite].max() - other[finite].min()
        largest = max(largest, float((one - other)[finite].abs().max() / span.clamp(min=1e-9)))
        if token != expected:
            break
    return largest


def _generate(
    model: Model, inputs: Mapping[str, Tensor], *, length: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The logits of each step [B, V] and the new tokens [B, T]."""
    with torch.inference_mode():
        made = model.network.generate(
            **inputs,
            max_new_tokens=length,
            min_new_tokens=length,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return tuple(step.float() for step in made.logits), made.sequences[:, -length:]
