"""How to process a picture and a prompt, as plain values for a program without this project."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from profiling.models.family import Family
from profiling.models.processing import QUESTION_PLACEHOLDER
from profiling.models.stand_ins import describe_stand_ins


def picture_recipe(family: Family, side: int) -> dict[str, Any]:
    """How a picture becomes pixel values at `img_size` side."""
    processing = family.processing
    images = processing.processor.image_processor
    patches = processing.patch_format
    mean, std = (
        [value] * 3 if isinstance(value, float) else list(value)
        for value in (images.image_mean, images.image_std)
    )
    return {
        "fit": processing.fit,
        "side": side if processing.keeps_aspect_ratio else processing.snap_side(side),
        "multiple": processing.multiple,
        "resample": int(images.resample),
        "rescale_factor": images.rescale_factor,
        "mean": mean,
        "std": std,
        "patches": None if patches is None else asdict(patches),
        "window": family.layout.window,
    }


def prompt_recipe(family: Family) -> dict[str, Any]:
    """How a question becomes the inputs of `generate`."""
    processing, layout = family.processing, family.layout
    prompt = processing.prompt_format
    return {
        "network": layout.network_class.__name__,
        "stand_ins": describe_stand_ins(layout.stand_ins(torch.float32)),
        "template": processing.render(QUESTION_PLACEHOLDER) + prompt.ending,
        "mark": QUESTION_PLACEHOLDER,
        "special_texts": list(processing.special_texts),
        "add_special_tokens": prompt.add_special_tokens,
        "image_token_id": processing.image_token_id,
        "in_place": prompt.in_place,
        "row_end_id": prompt.row_end_id,
        "after_picture": list(prompt.after_picture),
        "multiple": processing.multiple,
        "batched": not processing.keeps_aspect_ratio,
        "patch": processing.grid_patch,
        "encoder_decoder": layout.encoder_decoder,
        "longest": layout.longest,
    }
