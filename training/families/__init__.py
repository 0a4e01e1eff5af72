"""The five families at a size that trains on one core: one file per family."""

from __future__ import annotations

from importlib import import_module

from training.families.family import Family

FAMILIES = ("blip2_opt", "blip2_t5", "fuyu", "llava", "qwen25vl")


def find_family(name: str) -> Family:
    """The family of that name, with fresh tokenizer and processor."""
    return import_module(f"training.families.{name}").FAMILY()
