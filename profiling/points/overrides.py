"""What is typed for Hydra: checked before Hydra reads it, explained where Hydra refuses it."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from profiling.errors import HIDDEN, ConfigError, describe_unknown, is_secret, shorten, unknown_key
from profiling.points.configuration import (
    GROUPS,
    INNER_KEYS,
    ROOT_KEYS,
    SINGLE_GROUPS,
    keys_beside,
    list_owners,
)
from profiling.points.options import describe_options

# The options of hydra/launcher that need a package, and its plugin for Hydra.
LAUNCHER_PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
# Python refuses to read longer numbers, and no key needs one.
_MOST_DIGITS = 1000
_LONG_NUMBER = re.compile(rf"[\d_]{{{_MOST_DIGITS + 1},}}")
_LONGEST_KEY = 200
# Hydra fails on an option that is no text, in a list of values too.
_NO_NAME = re.compile(
    r"(^|[\[,(])\s*([+-]?[\d._]+(e[+-]?\d+)?|[+-]?inf|nan|true|false)\s*($|[\],)])", re.I
)
_QUOTING = """allowed is key=value, with other than plain letters in quotes: 'key="value"'"""


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would accept silently or fail on, such as two models in one point."""
    for argument in arguments:
        if argument.startswith("--"):
            _check_flag(argument.partition("=")[0])
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    options, others = parser.parse_known_args(list(arguments))
    if others:
        key, _, value = others[0].partition("=")
        if key.startswith("-"):
            _check_flag(key)
        raise ConfigError(key, value, "allowed in one row with the others, before or behind flags")
    _check_commands(options)
    for argument in options.overrides:
        _check_override(argument)


def _check_override(argument: str) -> None:
    key, _, value = argument.partition("=")
    if len(key) > _LONGEST_KEY:
        raise unknown_key(key, value, ROOT_KEYS)
    if _LONG_NUMBER.search(value):
        raise ConfigError(key, value, f"allowed is a whole number of up to {_MOST_DIGITS} digits")
    if key.lstrip("+~") == "hydra/launcher":
        if _NO_NAME.search(value):
            raise ConfigError(key, value, _describe_choices("hydra/launcher", ()))
        _check_launcher(value)
    if not key.lstrip("+~"):
        raise ConfigError(key, value, f"allowed are {', '.join(ROOT_KEYS)}")
    group, _, inner = key.partition(".")
    if key.lstrip("+~") in (*GROUPS, "experiment") and _NO_NAME.search(value):
        raise ConfigError(key, value, describe_options(key.lstrip("+~")))
    if group not in GROUPS:
        _check_added(key, value)
        return
    if inner == "name":
        raise ConfigError(key, value, f"choose it with {group}={value}")
    is_list = value[:1] == "[" and group in SINGLE_GROUPS
    if not inner and (value in ("", "null", "[]") or value[0] == "{" or is_list):
        raise ConfigError(key, value, describe_options(group))


def _check_added(key: str, value: str) -> None:
    """Refuse a group that is added with +, of which there is one already."""
    if key[0] == "+" and key.lstrip("+") in GROUPS:
        raise ConfigError(key, value, f"allowed is {key.lstrip('+')}=…, without +")


def _refuse_flags(message: str) -> NoReturn:
    """What argparse has to say, without its usage."""
    flag, _, reason = message.removeprefix("argument ").partition(": ")
    raise ConfigError(flag, "", f"{shorten(reason)}; allowed is what --hydra-help lists")


def _check_launcher(name: str) -> None:
    plugin = LAUNCHER_PLUGINS.get(name)
    if plugin is None or find_spec(f"hydra_plugins.{plugin}") is not None:
        return
    extra = "ray" if "ray" in plugin else "launchers"
    command = f"pip install -r requirements-{extra}.txt -c constraints.txt"
    raise ConfigError("hydra/launcher", name, f"allowed once it is installed: {command}")


def _check_flag(flag: str) -> None:
    known = [one for one in get_args_parser()._option_string_actions if one.startswith("--")]
    if not any(one.startswith(flag) for one in known):
        raise ConfigError(flag, "", f"unknown; allowed are {', '.join(known)}")


def _check_commands(options: Namespace) -> None:
    """Refuse two of Hydra's commands at a time, and one that ignores all the others."""
    if options.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun", options.experimental_rerun, "allowed are keys")
    names = ("run", "multirun", "cfg", "info", "shell_completion")
    chosen = [name for name in names if getattr(options, name) not in (None, False)]
    if len(chosen) > 1:
        first, other = (f"--{name.replace('_', '-')}" for name in chosen[:2])
        allowed = f"allowed without {first}; what lists the points of a sweep is dry=true"
        raise ConfigError(other, getattr(options, chosen[1]), allowed)
    if options.resolve and not (options.cfg or options.help):
        raise ConfigError("--resolve", True, "allowed beside --cfg or --help")


def quote(text: str) -> str:
    """A text as the value of an override, whatever characters are in it.

    In Hydra's grammar backslashes have a meaning only before a quote.
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def explain(error: Exception) -> str:
    """Hydra's complaint as one line that names the key, the value and what is allowed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, OverrideParseException):
        return f"{_hide(str(error.override))}: cannot be read: {shorten(text)}; {_QUOTING}"
    unknown = re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]*)'", text)
    if unknown:
        group, value = unknown.groups()
        return f"{group}={value}: {_describe_choices(group, lines[1:])}"
    if text.startswith("Could not override '"):
        key = text.split("'")[1]
        owners = list_owners(key)
        if owners:
            group = key.partition(".")[0]
            return f"{_as_typed(key)}: allowed with {group}={' or '.join(owners)}"
        return f"{_as_typed(key)}: {describe_unknown(key, keys_beside(key), INNER_KEYS)}"
    swept = re.fullmatch(r"Sweep parameters '(.*)' requires --multirun", text)
    if swept:
        return f"{_hide(swept[1])}: allowed with -m, which runs a point for each of the values"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{_as_typed(error.full_key)}: {text}; allowed is a value"
    return " ".join(map(shorten, lines))


def fails_in_hydra(error: Exception) -> bool:
    """Whether an exception comes out of Hydra itself, which checks little of what was typed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return name.partition(".")[0] in ("hydra", "omegaconf", "antlr4")


def refuse_for_hydra(error: Exception) -> str:
    """One line for what Hydra failed on without saying which of the words it was."""
    said = shorten(" ".join(str(error).split())) or type(error).__name__
    typed = shorten(" ".join(map(_hide, sys.argv[1:])))
    return f"{typed}: Hydra cannot use it: {said}; allowed is what --help and --hydra-help list"


def _as_typed(key: str) -> str:
    return _hide(next((a for a in sys.argv[1:] if a.lstrip("+~").startswith(f"{key}=")), key))


def _hide(argument: str) -> str:
    """The argument, without its value where that may be a secret."""
    key, equals, _ = argument.partition("=")
    return f"{key}={HIDDEN}" if equals and is_secret(key) else shorten(argument)


def _describe_choices(group: str, available: Sequence[str]) -> str:
    if group in (*GROUPS, "experiment"):
        return describe_options(group)
    if group == "hydra/launcher":
        return f"allowed is one of basic, {', '.join(LAUNCHER_PLUGINS)}"
    listed = [line for line in available if re.fullmatch(r"\w+", line)]
    return f"allowed is one of {', '.join(listed)}"
