"""How the value of each key is taken from a composed configuration and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeGuard

from profiling import PROJECT
from profiling.errors import ConfigError, require_one_of, require_switch, require_whole
from profiling.points.key import Composed, Reader
from profiling.points.options import list_options, read_option
from profiling.points.settings import Settings, check_by_room

SMALLEST_PROMPT, LONGEST_PROMPT = 1, 512
# What torch takes.
LARGEST_SEED = 2**63 - 1
# Beyond what any machine can hold, so that a slip is refused before memory is allocated for it.
LARGEST_BATCH = 4096
MOST_NEW_TOKENS = 131_072
MOST_REPEATS = 1_000_000
MOST_SHOWN = 1024
MOST_LAUNCHES = 1000
DTYPES = ("float32", "float16", "bfloat16")


def option(composed: Composed, name: str) -> str:
    """The name of the option that was chosen in a group."""
    return str(composed[name.partition(".")[0]]["name"])


def group(composed: Composed, name: str) -> dict[str, Any]:
    """All settings of the option that was chosen in a group, its name among them."""
    return dict(composed[name])


def switch(composed: Composed, name: str) -> bool:
    return require_switch(name, composed[name])


def text(composed: Composed, name: str) -> str:
    value = composed[name]
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(name, value, "allowed is a name or a path")
    return value


def whole(*, at_least: int, at_most: int | None = None) -> Reader:
    """A whole number that has to be given."""
    return lambda composed, name: require_whole(
        name, composed[name], at_least=at_least, at_most=at_most
    )


def whole_or_null(*, null: str, at_least: int, at_most: int | None = None) -> Reader:
    """A whole number, or null for what `null` describes."""
    besides = f", or null ({null})"

    def read(composed: Composed, name: str) -> int | None:
        value = composed[name]
        if value is None:
            return None
        return require_whole(name, value, at_least=at_least, at_most=at_most, besides=besides)

    return read


def device(composed: Composed, _: str) -> str:
    return composed.device


def threads(composed: Composed, name: str) -> int:
    read = whole_or_null(null="as suits the weights", at_least=1, at_most=composed.cores)
    # A model of a few million weights runs slower on several threads, which wait for each other.
    return read(composed, name) or (1 if composed["weights.name"] == "tiny" else composed.cores)


def checkpoint(composed: Composed, name: str) -> str | None:
    """The checkpoint whose weights are loaded, or whose architecture random ones are given.

    None where it is the architecture that the project ships with the model.
    """
    if composed[name] is None and _shipped(composed, name) is None:
        told = "this model has no checkpoint of its own; allowed is a hub id or a folder"
        raise ConfigError(name, None, f"{told}, with weights=pretrained or random")
    return text(composed, name) if _has_checkpoint(composed, name) else None


def revision(composed: Composed, name: str) -> str | None:
    """The revision of a hub checkpoint; the shipped one belongs to the shipped checkpoint."""
    if not _has_checkpoint(composed, name):
        return None
    is_shipped = composed[name] == _shipped(composed, name)
    if os.path.isdir(os.path.expanduser(str(composed["model.checkpoint"]))):
        if composed[name] is not None and not is_shipped:
            raise ConfigError(name, composed[name], "allowed with a hub id; a folder has none")
        return None
    elsewhere = composed["model.checkpoint"] != _shipped(composed, "model.checkpoint")
    return None if is_shipped and elsewhere else composed[name]


def _has_checkpoint(composed: Composed, name: str) -> bool:
    """Whether a checkpoint is read; a setting of one is refused where none is."""
    weights = composed["weights.name"]
    if weights == "pretrained":
        return True
    elsewhere = composed["model.checkpoint"] != _shipped(composed, "model.checkpoint")
    if weights == "random" and elsewhere:
        return True
    if composed[name] != _shipped(composed, name):
        other = "random" if name == "model.checkpoint" else "random and a model.checkpoint"
        raise ConfigError(
            name, composed[name], f"allowed with weights=pretrained or {other}, not {weights}"
        )
    return False


def _shipped(composed: Composed, name: str) -> Any:
    """The value of a setting in the yaml of the option that was chosen."""
    group, _, setting = name.partition(".")
    return read_option(group, composed[f"{group}.name"])[setting]


def dtype(composed: Composed, name: str) -> str:
    require_one_of(name, composed[name], DTYPES)
    return str(composed[name])


def is_given(value: object) -> bool:
    return value is not None


def prompt(composed: Composed, name: str) -> str | None:
    """A template for models that leave it to the checkpoint; the others have none to set."""
    template = composed["model"].get("prompt")
    if template is not None and (not isinstance(template, str) or "{question}" not in template):
        raise ConfigError(name, template, "allowed is a text with {question} in it")
    return template


def image_side(composed: Composed, name: str) -> int | None:
    """The side that was typed, or the native one of the model with these weights.

    None where that is up to the checkpoint's own processor.
    """
    smallest, largest = (composed[f"model.{end}_img_size"] for end in ("smallest", "largest"))
    read = whole_or_null(null="the native size", at_least=smallest, at_most=largest)
    side = read(composed, name)
    if side is not None:
        return side
    native = f"model.native_img_size.{composed['weights.name']}"
    if (
        composed[native] is None
        and _shipped(composed, "model.native_img_size") == (composed["model.native_img_size"])
    ):
        return None
    return require_whole(native, composed[native], at_least=smallest, at_most=largest)


def engine(composed: Composed, name: str) -> dict[str, Any]:
    """The settings of the engine, which its room has checked."""
    chosen = composed[name]
    shipped = read_option(name, chosen["name"])
    settings = Settings(place=name, chosen=chosen, shipped=shipped)
    # It names code, as the name of the yaml does.
    settings.require_one_of("room", [shipped["room"]])
    settings.require_environment_names()
    check_by_room(f"{_room(composed)}.settings", settings)
    return dict(chosen)


def _room(composed: Composed) -> str:
    room = read_option("engine", composed["engine.name"])["room"]
    return f"profiling.engines.{room}"


def stack(composed: Composed, name: str) -> dict[str, dict[str, Any]]:
    """The settings of each optimization, in the canonical order of the stack."""
    typed: Mapping[str, Mapping[str, Any]] = composed[name]
    for one, chosen in typed.items():
        shipped = read_option(name, one)[one]
        settings = Settings(place=f"{name}.{one}", chosen=chosen, shipped=shipped)
        check_by_room(f"{_room(composed)}.optimizations.settings.{one}", settings)
    return order_stack(name, typed)


def order_stack(name: str, typed: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """One order whatever the order typed; the baseline is nothing beside another."""
    ordered = dict(sorted(typed.items(), key=lambda item: (item[1]["order"], item[0])))
    _check_kinds(name, typed, ordered)
    if len(ordered) > 1:
        ordered.pop("baseline", None)
    return {one: dict(chosen) for one, chosen in ordered.items()}


def _check_kinds(
    name: str, typed: Mapping[str, Any], ordered: Mapping[str, Mapping[str, Any]]
) -> None:
    kinds: dict[str, str] = {}
    for one, chosen in ordered.items():
        other = kinds.setdefault(chosen["kind"], one)
        if other != one:
            raise ConfigError(
                name,
                f"[{','.join(typed)}]",
                f"{other} and {one} both set the {chosen['kind']}; at most one of them",
            )


def dataset_folder(composed: Composed, name: str) -> str:
    if composed[name] is None:
        return str(PROJECT / "datasets" / composed["dataset.name"])
    # Unlike Path.expanduser this leaves the home of an unknown user as a folder that is not there.
    return os.path.abspath(os.path.expanduser(text(composed, name)))


def judging(composed: Composed, name: str) -> Any:
    """How answers are judged: as those of one of the datasets are."""
    require_one_of(name, composed[name], _used_by_datasets(name.partition(".")[2]))
    return composed[name]


@cache
def _used_by_datasets(name: str) -> list[object]:
    options = list_options("dataset")
    return list(dict.fromkeys(read_option("dataset", option)[name] for option in options))


def profiler(composed: Composed, name: str) -> dict[str, Any]:
    repeats = whole_or_null(null="until the interval is narrow", at_least=1, at_most=MOST_REPEATS)
    repeats(composed, f"{name}.repeats")
    whole_or_null(null="all of them", at_least=1)(composed, f"{name}.num_samples")
    whole_or_null(null="as fits", at_least=0)(composed, f"{name}.divergence.most_bytes")
    budget = composed[f"{name}.time_budget_s"]
    if not is_number(budget) or not budget > 0:
        allowed = "allowed is a number of seconds above 0"
        raise ConfigError(f"{name}.time_budget_s", budget, allowed)
    _check_counts(name, composed[name], read_option(name, composed[f"{name}.name"]))
    return group(composed, name)


# No passes, batches or samples measure nothing; an interval needs two windows. No bytes is a bound.
_LEAST_COUNTS = {"windows": 2, "most_bytes": 0}
_PERIODS = ("sample_s", "sample_interval_s")


def _check_counts(place: str, chosen: Mapping[str, Any], shipped: Mapping[str, Any]) -> None:
    for key, example in shipped.items():
        name = f"{place}.{key}"
        if isinstance(example, Mapping):
            _check_counts(name, chosen[key], example)
        elif key.endswith(_PERIODS) and not chosen[key] > 0:
            # A watch without pauses would take a core from what it watches.
            raise ConfigError(name, chosen[key], "allowed is a number of seconds above 0")
        elif isinstance(example, int) and not isinstance(example, bool) and not key.endswith("_s"):
            require_whole(name, chosen[key], at_least=_LEAST_COUNTS.get(key, 1))


def comparison(composed: Composed, name: str) -> dict[str, Any]:
    for setting in ("relative_target", "time_budget_s", "warmup_tolerance", "memory_share"):
        value = composed[f"{name}.{setting}"]
        if not is_number(value) or not value > 0:
            raise ConfigError(f"{name}.{setting}", value, "allowed is a number above 0")
    for setting in ("most_launches", "warmup_window", "warmup_cap"):
        value = composed[f"{name}.{setting}"]
        require_whole(f"{name}.{setting}", value, at_least=1, at_most=MOST_REPEATS)
    return group(composed, name)


def is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
