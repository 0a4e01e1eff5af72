"""From a composed configuration to a point: every key and every value is checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from profiling.errors import ConfigError, require_one_of, require_switch, unknown_key
from profiling.points.key import Composed, declarations, root_keys
from profiling.points.options import (
    CONF,
    describe_options,
    is_group,
    list_families,
    list_options,
    read_option,
    takes_several,
)
from profiling.points.point import Point
from profiling.points.readers import is_number

ROOT_KEYS = root_keys(Point)
# Those that lie inside a group, such as `model.checkpoint`.
INNER_KEYS = tuple(one.name for _, one in declarations(Point) if "." in one.name)
GROUPS = tuple(key for key in ROOT_KEYS if is_group(key))
SINGLE_GROUPS = tuple(group for group in GROUPS if not takes_several(group))

Kind = TypeVar("Kind", bound=Point)


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """What main.py would be given with these overrides, as plain values."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return read_config(compose("config", overrides=list(overrides)))


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
    return read_kind(Point, config, device=device, cores=cores)


def read_kind(kind: type[Kind], config: Mapping[str, Any], *, device: str, cores: int) -> Kind:
    """The same for any class of points, from the keys that its fields declare."""
    _check_keys(config, root_keys(kind))
    composed = Composed(config=config, device=device, cores=cores)
    values = {
        field.name: declared.read(composed, declared.name) for field, declared in declarations(kind)
    }
    return kind(**values)


def _check_keys(config: Mapping[str, Any], roots: tuple[str, ...]) -> None:
    """Keys added with + or taken away with ~ are as wrong as misspelt ones."""
    _compare_shape("", config, dict.fromkeys(roots))
    for group in filter(is_group, roots):
        chosen = config[group]
        if not isinstance(chosen, Mapping) or not chosen:
            raise ConfigError(group, chosen, describe_options(group))
        if takes_several(group):
            _check_stacked(group, chosen)
        else:
            _compare_shape(f"{group}.", chosen, read_option(group, str(chosen.get("name"))))


def _check_stacked(group: str, chosen: Mapping[str, Any]) -> None:
    for name, settings in chosen.items():
        shipped = read_option(group, name)[name]
        _compare_shape(f"{group}.{name}.", settings, shipped)
        for key in ("kind", "order"):
            require_one_of(f"{group}.{name}.{key}", settings[key], [shipped[key]])


def _compare_shape(prefix: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in found.keys() - known.keys():
        raise unknown_key(prefix + key, found[key], [prefix + one for one in known])
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
        # Some yamls have seconds as whole numbers, but any number of seconds will do.
        whole = isinstance(example, int) and not key.endswith("_s")
        if not is_number(value) or value < 0 or (whole and not isinstance(value, int)):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(key, value, f"allowed is {kind} from 0")
    written = isinstance(example, str) and not example.startswith("${")
    if written and not isinstance(value, (str, type(None))):
        raise ConfigError(key, value, "allowed is a text")


def list_owners(key: str) -> list[str]:
    """The options of a group that have a key, as `engine.url` is one of `endpoint` alone."""
    group, *path = key.split(".")
    if group not in GROUPS or not path:
        return []
    *outer, last = path
    return [option for option in list_options(group) if last in _names_in(group, option, outer)]


def keys_beside(key: str) -> list[str]:
    """The keys that may stand where `key` was typed, with one of the options or another."""
    *path, _ = key.split(".")
    if not path or path[0] not in SINGLE_GROUPS:
        return list(ROOT_KEYS)
    options = list_families() if path[0] == "model" else list_options(path[0])
    names = dict.fromkeys(name for one in options for name in _names_in(path[0], one, path[1:]))
    return [".".join([*path, name]) for name in names]


def _names_in(group: str, option: str, path: Sequence[str]) -> list[str]:
    level: Any = read_option(group, option)
    for name in path:
        level = level.get(name) if isinstance(level, Mapping) else None
    return list(level) if isinstance(level, Mapping) else []
