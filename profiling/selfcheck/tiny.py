"""Workloads of the embedded models, composed from the yaml files without a command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers.utils.logging import disable_progress_bar

from profiling import PROJECT
from profiling.engines.engine import Engine, find_engine
from profiling.engines.transformers.engine import TransformersEngine
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.workload import Workload
from profiling.machine.machine import usable_cores
from profiling.models.family import Family
from profiling.models.loading import load_family
from profiling.models.model import Model
from profiling.models.weights import locate
from profiling.points.configuration import GROUPS, ROOT_KEYS, read_point
from profiling.points.point import Point
from profiling.samples.samples import full_batches, load_samples

CONF = PROJECT / "conf"


def default_family() -> str:
    return str(compose()["model"]["name"])


def compose(**chosen: Any) -> dict[str, Any]:
    """The default configuration with some keys changed.

    A group is selected by the name of its yaml, any other key by its value.
    """
    whole = OmegaConf.load(CONF / "config.yaml")
    assert isinstance(whole, DictConfig)
    config = {key: whole[key] for key in ROOT_KEYS if key in whole}
    for default in whole.defaults:
        for group, name in default.items() if default != "_self_" else ():
            if group in GROUPS:
                config[group] = OmegaConf.load(CONF / group / f"{chosen.pop(group, name)}.yaml")
    plain = OmegaConf.to_container(OmegaConf.create({**config, **chosen}), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def tiny_point(*, device: str, **chosen: Any) -> Point:
    """A point with embedded weights; the default model unless one is named."""
    return read_point(compose(**chosen), device=device, cores=usable_cores())


@cache
def load_tiny(device: str) -> Engine:
    disable_progress_bar()
    point = tiny_point(device=device)
    return find_engine(point).load(point)


def tiny_workload(*, device: str, batch_size: int, max_new_tokens: int) -> Workload:
    """The default model on embedded samples; the model is loaded once."""
    point = tiny_point(device=device, batch_size=batch_size, max_new_tokens=max_new_tokens)
    torch.set_num_threads(point.threads)
    return make_workload(point, load_tiny(device))


def describe_workload(name: str) -> tuple[Family, Workload]:
    """A family, and a workload for counting only: it has no network."""
    point = tiny_point(device="cpu", model=name, max_new_tokens=5)
    family: Family = load_family(point, locate(point))
    model = Model(
        network=nn.Module(),
        family=family,
        device=torch.device("meta"),
        dtype=torch.float32,
        stored_values=False,
    )
    engine = TransformersEngine(loaded=LoadedModel(model=model), stack=())
    return family, make_workload(point, engine)


def make_workload(point: Point, engine: Engine) -> Workload:
    samples = load_samples(Path(point.dataset_folder), count=point.batch_size, at_most=None)
    return Workload(
        engine=engine,
        batches=full_batches(samples, point.batch_size),
        img_size=point.img_size,
        prompt_len=point.prompt_len,
        max_new_tokens=point.max_new_tokens,
        preload=True,
    )
