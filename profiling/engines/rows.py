"""What an engine with a processor of its own tells of the samples in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profiling.engines.engine import Row

if TYPE_CHECKING:
    from profiling.models.model import Model, Prepared


Size = tuple[int, int]
_UNKNOWN = (0, 0)


def describe_rows(
    model: Model,
    batch: Sequence[Prepared],
    inputs: Mapping[str, Any],
    tokens: Any | None,
    *,
    processed: Mapping[str, Any],
) -> list[Row]:
    """A row for each sample, from what generate got and the new tokens, if there are any.

    `processed` are the processor's tensors; they are others where pictures were left out since.
    """
    processing = model.family.processing
    prompts = inputs["attention_mask"].sum(dim=1).tolist()
    visual = processing.count_visual_tokens(inputs["input_ids"]).tolist()
    sizes = _sizes_of_rows(processing.picture_sizes(processed), batch)
    new: Sequence[tuple[str | None, int | None]] = [(None, None)] * len(batch)
    if tokens is not None:
        new = list(zip(processing.decode(tokens), model.count_new_tokens(tokens), strict=True))
    return [
        Row(
            prompt=item.prompt,
            answer=new[row][0],
            num_question_tokens=processing.count_question_tokens(item.question),
            num_prompt_tokens=prompts[row],
            num_visual_tokens=visual[row],
            num_new_tokens=new[row][1],
            image_width=(sizes[row][0] or None) if visual[row] else None,
            image_height=(sizes[row][1] or None) if visual[row] else None,
        )
        for row, item in enumerate(batch)
    ]


def _sizes_of_rows(sizes: Sequence[Size], batch: Sequence[Prepared]) -> list[Size]:
    """The size of the pictures of each sample; 0 by 0 where they differ or are not known.

    The sizes of pictures stand before those of clips.
    """
    counts = [len(item.shown.pictures) for item in batch]
    if len(sizes) != sum(counts) + sum(bool(item.shown.frames) for item in batch):
        return [_UNKNOWN] * len(batch)
    pictures, clips = iter(sizes[: sum(counts)]), iter(sizes[sum(counts) :])
    found = []
    for item, count in zip(batch, counts, strict=True):
        own = {next(clips)} if item.shown.frames else {next(pictures) for _ in range(count)}
        found.append(own.pop() if len(own) == 1 else _UNKNOWN)
    return found
