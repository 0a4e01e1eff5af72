"""From a composed configuration to a point: every key and value is checked, once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeGuard

import yaml
from omegaconf import DictConfig, OmegaConf

from profiling import PROJECT
from profiling.errors import (
    ConfigError,
    require_one_of,
    require_switch,
    require_whole,
)
from profiling.points.point import Point
from profiling.points.settings import check_settings

SMALLEST_PROMPT, LONGEST_PROMPT = 1, 512
# What torch takes.
LARGEST_SEED = 2**63 - 1
DTYPES = ("float32", "float16", "bfloat16")
SINGLE_GROUPS = ("model", "weights", "dataset", "profiler", "tracker")
GROUPS = (*SINGLE_GROUPS, "optimization")
ROOT_KEYS = (
    "model",
    "weights",
    "dataset",
    "optimization",
    "img_size",
    "prompt_len",
    "batch_size",
    "max_new_tokens",
    "num_samples",
    "seed",
    "round",
    "device",
    "threads",
    "preload",
    "profiler",
    "results_dir",
    "resume",
    "strict",
    "share_device",
    "tracker",
    "dry",
)


def read_config(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain values, without what is Hydra's own."""
    return to_plain(mask_config(config))


def to_plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def mask_config(config: DictConfig) -> DictConfig:
    names = [str(name) for name in config if name not in ("hydra", "experiment")]
    return OmegaConf.masked_copy(config, names)


def read_point(config: Mapping[str, Any], *, device: str, cores: int) -> Point:
    """Check a composed configuration, all but its samples, and make it a Point."""
    _check_keys(config)
    require_switch("dry", config["dry"])
    model, weights = config["model"], config["weights"]["name"]
    optimization = _read_stack(config["optimization"])
    prompt_len = _whole(
        config, "prompt_len", at_least=SMALLEST_PROMPT, at_most=LONGEST_PROMPT, null="as it is"
    )
    pretrained = weights == "pretrained"
    return Point(
        model=model["name"],
        weights=weights,
        checkpoint=_text(model["checkpoint"], "model.checkpoint") if pretrained else None,
        revision=model["revision"] if pretrained else None,
        public_dtype=model["dtype"],
        dataset=config["dataset"]["name"],
        dataset_folder=_dataset_folder(config["dataset"]),
        headline_reference=config["dataset"]["headline_reference"],
        accuracy=config["dataset"]["accuracy"],
        optimization=tuple(optimization),
        optimization_settings=optimization,
        img_size=_image_side(config),
        prompt_len=prompt_len,
        batch_size=_whole_given(config, "batch_size", at_least=1),
        max_new_tokens=_whole_given(config, "max_new_tokens", at_least=1),
        num_samples=_number_of_samples(config),
        seed=_whole_given(config, "seed", at_least=0, at_most=LARGEST_SEED),
        round=_whole_given(config, "round", at_least=1),
        device=device,
        threads=_threads(config, weights, cores),
        preload=require_switch("preload", config["preload"]),
        profiler=_read_profiler(config["profiler"]),
        results_dir=_text(config["results_dir"], "results_dir"),
        resume=require_switch("resume", config["resume"]),
        strict=require_switch("strict", config["strict"]),
        share_device=require_switch("share_device", config["share_device"]),
    )


def _check_keys(config: Mapping[str, Any]) -> None:
    """Keys added with + or taken away with ~ are as wrong as misspelt ones."""
    _compare_shape("", config, dict.fromkeys(ROOT_KEYS))
    for group in SINGLE_GROUPS:
        chosen = config[group]
        if not isinstance(chosen, Mapping):
            raise ConfigError(group, chosen, describe_options(group))
        _compare_shape(f"{group}.", chosen, _read_option(group, str(chosen.get("name"))))
    for name, settings in _stacked(config).items():
        shipped = _read_option("optimization", name)[name]
        _compare_shape(f"optimization.{name}.", settings, shipped)
        for key in ("kind", "order"):
            require_one_of(f"optimization.{name}.{key}", settings[key], [shipped[key]])
        check_settings(name, settings, shipped)
    require_one_of("model.dtype", config["model"]["dtype"], DTYPES)
    for key in ("headline_reference", "accuracy"):
        require_one_of(f"dataset.{key}", config["dataset"][key], _used_by_datasets(key))


@cache
def _used_by_datasets(key: str) -> list[object]:
    return list(dict.fromkeys(_read_option("dataset", name)[key] for name in _options("dataset")))


def _stacked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    groups = config["optimization"]
    if not isinstance(groups, Mapping) or not groups:
        raise ConfigError("optimization", groups, describe_options("optimization"))
    return groups


def describe_options(group: str) -> str:
    listed = ", ".join(_options(group))
    return f"allowed is one of {listed}" + ("" if group in SINGLE_GROUPS else ", or a list of them")


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (PROJECT / "conf" / group).glob("*.yaml"))


@cache
def _read_option(group: str, name: str) -> dict[str, Any]:
    """The yaml of an option: it says which keys there are."""
    if name not in _options(group):
        raise ConfigError(f"{group}.name", name, describe_options(group))
    text = (PROJECT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _compare_shape(prefix: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in found.keys() - known.keys():
        allowed = ", ".join(known)
        raise ConfigError(prefix + key, found[key], f"unknown key; allowed are {allowed}")
    for key, example in known.items():
        if key not in found:
            raise ConfigError(prefix + key, None, "the key is missing; give it a value")
        if isinstance(example, Mapping):
            if not isinstance(found[key], Mapping):
                allowed = f"allowed are values for {', '.join(example)}, as {prefix}{key}.<key>=…"
                raise ConfigError(prefix + key, found[key], allowed)
            _compare_shape(f"{prefix}{key}.", found[key], example)
        else:
            _compare_kind(prefix + key, found[key], example)


def _compare_kind(key: str, value: object, example: object) -> None:
    """A value has to be of the kind that stands in the yaml, where that is not null."""
    if isinstance(example, bool):
        require_switch(key, value)
    elif isinstance(example, (int, float)):
        # Seconds are shipped as whole numbers here and there, and need not be.
        whole = isinstance(example, int) and not key.endswith("_s")
        if not _is_number(value) or value < 0 or (whole and not isinstance(value, int)):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(key, value, f"allowed is {kind} from 0")
    written = isinstance(example, str) and not example.startswith("${")
    if written and not isinstance(value, (str, type(None))):
        raise ConfigError(key, value, "allowed is a text")


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def keys_beside(key: str) -> list[str]:
    """The keys that may stand where `key` was typed."""
    *path, _ = key.split(".")
    if not path or path[0] not in SINGLE_GROUPS:
        return list(ROOT_KEYS)
    level: Any = _read_option(path[0], _options(path[0])[0])
    for name in path[1:]:
        level = level.get(name) if isinstance(level, Mapping) else None
    names = level if isinstance(level, Mapping) else ()
    return [".".join([*path, name]) for name in names]


def _number_of_samples(config: Mapping[str, Any]) -> int | None:
    return _whole(config, "num_samples", at_least=1, null="all of them")


def _threads(config: Mapping[str, Any], weights: str, cores: int) -> int:
    threads = _whole(config, "threads", at_least=1, at_most=cores, null="as suits the weights")
    # Threads that wait for each other make a model of a few million weights slower, not faster.
    return threads or (1 if weights == "tiny" else cores)


def _image_side(config: Mapping[str, Any]) -> int:
    model = config["model"]
    side = _whole(
        config,
        "img_size",
        at_least=model["smallest_img_size"],
        at_most=model["largest_img_size"],
        null="the native size",
    )
    if side is not None:
        return side
    native = config["weights"]["name"]
    number = _whole(
        model["native_img_size"],
        native,
        at_least=model["smallest_img_size"],
        at_most=model["largest_img_size"],
        null="",
        prefix="model.native_img_size.",
    )
    assert number is not None
    return number


def _read_stack(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The optimizations in their canonical order, whatever the order they were typed in."""
    stack = dict(sorted(groups.items(), key=lambda item: (item[1]["order"], item[0])))
    kinds: dict[str, str] = {}
    for name, settings in stack.items():
        other = kinds.setdefault(settings["kind"], name)
        if other != name:
            raise ConfigError(
                "optimization",
                f"[{','.join(groups)}]",
                f"{other} and {name} both set the {settings['kind']}; at most one of them",
            )
    if len(stack) > 1:
        stack.pop("baseline", None)
    return {name: dict(settings) for name, settings in stack.items()}


def _dataset_folder(dataset: Mapping[str, Any]) -> str:
    if dataset["folder"] is None:
        return str(PROJECT / "datasets" / dataset["name"])
    written = _text(dataset["folder"], "dataset.folder")
    # Unlike Path.expanduser this leaves the home of an unknown user as a folder that is not there.
    return os.path.abspath(os.path.expanduser(written))


def _read_profiler(profiler: Mapping[str, Any]) -> dict[str, Any]:
    _whole(profiler, "repeats", at_least=1, null="until the interval is narrow", prefix="profiler.")
    _whole(profiler, "num_samples", at_least=1, null="all of them", prefix="profiler.")
    budget = profiler["time_budget_s"]
    if not _is_number(budget) or not budget > 0:
        raise ConfigError(
            "profiler.time_budget_s", budget, "allowed is a number of seconds above 0"
        )
    return dict(profiler)


def _whole_given(
    config: Mapping[str, Any], key: str, *, at_least: int, at_most: int | None = None
) -> int:
    value = config[key]
    if value is None:
        raise ConfigError(key, value, f"allowed is a whole number from {at_least}")
    number = _whole(config, key, at_least=at_least, at_most=at_most, null="")
    assert number is not None
    return number


def _whole(
    config: Mapping[str, Any],
    key: str,
    *,
    at_least: int,
    null: str,
    at_most: int | None = None,
    prefix: str = "",
) -> int | None:
    value = config[key]
    if value is None:
        return None
    besides = f", or null ({null})" if null else ""
    return require_whole(prefix + key, value, at_least=at_least, at_most=at_most, besides=besides)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(key, value, "allowed is a name or a path")
    return value
