"""Cutting a checkpoint of two gigabytes, watched from outside for the memory that it takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from profiling import PROJECT
from profiling.models.loading import find_family, read_config
from profiling.models.weights import CHECKPOINTS
from profiling.parts.artifacts import size_bytes
from profiling.parts.cutting import INDEX, file_of

GIGA = 10**9
SHARDS = 4
PROGRAM = """
import resource, sys
from pathlib import Path
from profiling.models.loading import find_family, read_config
from profiling.parts.cutting import cut, write_pt
source, folder = map(Path, sys.argv[1:])
options = {"local_files_only": True}
kind = find_family("llava")
config = read_config(kind.layout.network_class.config_class, str(source), options)
family = kind.load(config=config, folder=source, processor_options=options)
cut(source, folder, family=family, model="llava", digest="d", embedding=False)
write_pt(folder)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def make_large(folder: Path) -> Path:
    """A checkpoint of two gigabytes in shards, random in every value."""
    tiny = CHECKPOINTS / "tiny" / "llava"
    folder.mkdir()
    for path in tiny.glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    options = {"local_files_only": True}
    config = read_config(find_family("llava").layout.network_class.config_class, str(tiny), options)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 2048, 5504, 16
    text.num_attention_heads = text.num_key_value_heads = 16
    text.head_dim = 128
    vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = 1024, 4096, 16
    vision.num_attention_heads = 16
    config.save_pretrained(folder)
    with torch.device("meta"):
        network = find_family("llava").layout.network_class._from_config(config)
    write_shards(folder, {name: value.shape for name, value in network.state_dict().items()})
    return folder


def write_shards(folder: Path, shapes: dict[str, torch.Size]) -> None:
    weight_map = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        values = {name: make_values(shapes[name]) for name in sorted(shapes)[number::SHARDS]}
        save_file(values, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(values, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))


def make_values(shape: torch.Size) -> torch.Tensor:
    # Bits of numbers from 0 to 1 in half precision; drawing whole numbers is faster.
    return torch.randint(0, 0x3C00, shape, dtype=torch.int16).view(torch.float16)


def run(source: Path, folder: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source), str(folder)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_splitting_two_gigabytes_takes_less_than_the_larger_part(tmp_path: Path) -> None:
    source, folder = make_large(tmp_path / "whole"), tmp_path / "parts"
    assert size_bytes(source) > 2 * GIGA * 0.95
    peak_bytes = run(source, folder)
    largest = max(size_bytes(file_of(folder, part)) for part in ("vision", "language"))
    # Of the whole process, libraries and all.
    assert peak_bytes < 1.3 * largest
    assert size_bytes(folder) > size_bytes(source)
