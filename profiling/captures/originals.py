"""The network that a capture was made of, loaded again and compared weight by weight."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers.initialization import no_init_weights

from profiling.captures.folder import Capture
from profiling.captures.module_settings import settings_of
from profiling.captures.point_calls import load_engine
from profiling.captures.tensor_files import broken
from profiling.captures.weight_files import digests_of, put_weights, read_weights
from profiling.errors import ConfigError
from profiling.models.loading import find_family
from profiling.points.point import Point

# Keys of main.py that decide which network is loaded; a folder has no say in others.
_KEYS = ("model", "weights", "optimization", "seed", "model.checkpoint", "model.revision")
_MOST_THREADS = 256


def overrides_of(capture: Capture) -> list[str]:
    """What loads the captured network, as far as the folder may decide it."""
    point = capture.facts.get("point")
    if point is None:
        reason = "it was not made of a model by name; the file of functions needs a function"
        raise ConfigError("capture", capture.folder, f"{reason} original() that returns the module")
    listed = point.get("overrides") if isinstance(point, dict) else None
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise broken(capture.folder, "the overrides of its point are not a list of texts")
    kept = []
    for text in listed:
        key = text.partition("=")[0].lstrip("+~")
        if key in _KEYS or key.startswith("optimization."):
            kept.append(text)
    return kept


def set_threads(capture: Capture) -> None:
    """As many threads as the capture was made with: they decide in which parts sums are made."""
    text = str(capture.facts["made_with"].get("threads", ""))
    if text.isdecimal() and 1 <= int(text[:9]) <= _MOST_THREADS:
        torch.set_num_threads(int(text))


def load_original(capture: Capture, point: Point) -> nn.Module:
    """From the folder's own weights where it has some that fit, else as the point says."""
    network = None
    if capture.weights_path is not None:
        network = _from_folder(capture, point.model)
    if network is None or _other_classes(capture, network):
        network = load_engine(point).network
    check_same(capture, network)
    return network


def _from_folder(capture: Capture, model: str) -> nn.Module:
    """The family's network with the folder's configuration and weights: no checkpoint is read."""
    definition, values = find_family(model), copy.deepcopy(capture.config(""))
    config = definition.layout.config_class(values, str(capture.folder)).from_dict(values)
    layout = definition.layout(config=config)
    with no_init_weights():
        network: Any = layout.network_class._from_config(config)
        network.tie_weights()
    layout.untie(network)
    network.eval().requires_grad_(False)
    assert capture.weights_path is not None
    put_weights(network, read_weights(capture.weights_path))
    layout.adapt(network)
    return network  # type: ignore[no-any-return]


def _other_classes(capture: Capture, network: nn.Module) -> str | None:
    """The first called module that is of another class here, if there is one."""
    here = dict(network.named_modules(remove_duplicate=False))
    for path in {call.module: None for call in capture.calls}:
        kind = capture.modules[path]["class"]
        if path not in here:
            return f"{path} ({kind}) is not in this network"
        if type(here[path]).__name__ != kind:
            return f"{path} is a {kind} there and a {type(here[path]).__name__} here"
        if here[path].training:
            return f"{path} is in training mode here"
    return None


def check_same(capture: Capture, network: nn.Module) -> None:
    """Refuse a network that is not the captured one: other classes, settings or weights."""
    other = _other_classes(capture, network)
    if other is not None:
        raise ConfigError("capture", capture.folder, other)
    for path in {call.module: None for call in capture.calls}:
        there, here = capture.modules[path]["settings"], settings_of(network.get_submodule(path))
        for name in there:
            if here.get(name) != there[name]:
                told = f"{path}.{name} is {there[name]} there and {here.get(name)} here"
                raise ConfigError("capture", capture.folder, told)
    here = digests_of(network)
    for name, digest in capture.facts["weights"].items():
        if here.get(name) != digest:
            reason = f"the weight {name} is another one in the network that was loaded"
            raise ConfigError("capture", capture.folder, reason)
