"""Answers a question from embeddings: language_inference.py --embeddings FILE.npz --text "…" """

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from torch import Tensor

from profiling.files import LARGEST_PICTURE, open_file, require_json
from profiling.models.special_texts import escape_special_texts
from profiling.models.stand_ins import read_stand_ins
from profiling.parts.reduced import load_reduced

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", required=True, type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--max-tokens", default=128, type=int)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    if chosen.max_tokens < 1:
        sys.exit(f"--max-tokens {chosen.max_tokens}: allowed is a whole number from 1")
    recipe = require_json(HERE / "prompt.json")
    dtype, device = getattr(torch, chosen.dtype), find_device(chosen.device)
    network = load_network(recipe, dtype, device)
    tokenizer = transformers.AutoTokenizer.from_pretrained(HERE, local_files_only=True)
    inputs = make_inputs(recipe, tokenizer, chosen.text, read_embeddings(chosen.embeddings))
    tokens, longest = inputs["input_ids"].shape[1], recipe["longest"]
    if longest is not None and tokens > longest:
        sys.exit(f"--text: the prompt has {tokens} tokens, and this model takes up to {longest}")
    placed = {name: value.to(device) for name, value in inputs.items()}
    placed["pixel_values"] = placed["pixel_values"].to(dtype)
    with torch.inference_mode():
        made = network.generate(**placed, max_new_tokens=chosen.max_tokens, do_sample=False)
    start = 1 if recipe["encoder_decoder"] else inputs["input_ids"].shape[1]
    print(tokenizer.decode(made[0, start:], skip_special_tokens=True).strip())


def find_device(name: str) -> torch.device:
    """The device of that name; ends the script where torch cannot use it."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as problem:
        sys.exit(f"--device {name}: {str(problem).splitlines()[0]}")


def read_embeddings(path: Path) -> dict[str, Any]:
    """What `vision_inference.py` wrote; ends the script where it is not that."""
    try:
        with open_file(path, at_most=LARGEST_PICTURE) as stream:
            found = numpy.load(stream)
            return {name: found[name] for name in ("embeddings", "width", "height")}
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as problem:
        sys.exit(f"--embeddings {path}: not what vision_inference.py writes: {problem}")


def load_network(recipe: dict[str, Any], dtype: torch.dtype, device: torch.device) -> Any:
    """The language part, in which embeddings replace the output of the vision part."""
    kind = getattr(transformers, recipe["network"])
    values, _ = kind.config_class.get_config_dict(HERE, local_files_only=True)
    return load_reduced(
        kind,
        HERE,
        read_stand_ins(recipe["stand_ins"], dtype),
        config=kind.config_class.from_dict(values),
        dtype=dtype,
        device=device,
    )


def make_inputs(
    recipe: dict[str, Any], tokenizer: Any, question: str, seen: Any
) -> dict[str, Tensor]:
    """The inputs of `generate`, with embeddings instead of pixels."""
    embeddings = torch.from_numpy(seen["embeddings"])
    width, height = int(seen["width"]), int(seen["height"])
    columns = width // recipe["multiple"]
    ids = torch.tensor([write_prompt(recipe, tokenizer, question, len(embeddings), columns)])
    batched = embeddings[None] if recipe["batched"] else embeddings
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": batched}
    if recipe["patch"] is not None:
        grid = [1, height // recipe["patch"], width // recipe["patch"]]
        inputs["image_grid_thw"] = torch.tensor([grid])
        inputs["mm_token_type_ids"] = (ids == recipe["image_token_id"]).long()
    return inputs


def write_prompt(
    recipe: dict[str, Any], tokenizer: Any, question: str, count: int, columns: int
) -> list[int]:
    """The ids of the prompt, with one placeholder per embedding of the picture."""
    escaped = escape_special_texts(question, recipe["special_texts"])
    text = recipe["template"].replace(recipe["mark"], escaped)
    ids: list[int] = tokenizer(text, add_special_tokens=recipe["add_special_tokens"])["input_ids"]
    token = recipe["image_token_id"]
    picture = [token] * count
    if recipe["row_end_id"] is not None:
        row = [token] * columns + [recipe["row_end_id"]]
        picture = row * (count // columns)
    if not recipe["in_place"]:
        return [*picture, *recipe["after_picture"], *ids]
    place = ids.index(token)
    return [*ids[:place], *picture, *ids[place + 1 :]]


if __name__ == "__main__":
    main()
