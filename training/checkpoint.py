"""Writes a checkpoint folder in the layout of public ones, in half precision, and checks it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, ProcessorMixin

from profiling.errors import ConfigError
from profiling.models.weights import check_folder
from training.families.family import Family


def write_checkpoint(folder: Path, family: Family, network: PreTrainedModel) -> None:
    """Weights, configuration, tokenizer and processor of a family in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    processor = family.build_processor()
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    _name_public_classes(folder, processor)
    _halve(folder / "model.safetensors")


def check_checkpoint(folder: Path, model: str) -> None:
    """The checks of a run, with the error naming this command's argument."""
    try:
        check_folder(folder, model)
    except ConfigError as error:
        raise ConfigError("checkpoint", error.value, error.allowed) from None


def _halve(path: Path) -> None:
    # config.json still names float32, so that the loaded model computes in float32.
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _name_public_classes(folder: Path, processor: ProcessorMixin) -> None:
    """Name the library's classes, as public folders do, not a backend or subclass of them."""
    public = next(c for c in type(processor).__mro__ if c.__module__.startswith("transformers."))
    _change(folder / "tokenizer_config.json", processor_class=public.__name__)
    _change(folder / "processor_config.json", processor_class=public.__name__)
    images = type(processor.image_processor).__name__.removesuffix("Pil")
    _change(folder / "preprocessor_config.json", image_processor_type=images)


def _change(path: Path, **values: str) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
