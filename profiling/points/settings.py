"""Rules for the settings of an engine or an optimization, which lie in its own room.

That a value is of the kind that its yaml has is checked where configurations are read. What no
yaml can say, a module `settings` of the room checks: it imports no framework, since the process
that checks points has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from profiling.errors import ConfigError, require_one_of, require_whole

# Settings of this ending hold the name of an environment variable and never its value.
_ENVIRONMENT = "_env"


class Settings(Mapping[str, Any]):
    """The settings that were chosen, the place of their keys, and the values that are shipped."""

    def __init__(
        self, *, place: str, chosen: Mapping[str, Any], shipped: Mapping[str, Any]
    ) -> None:
        self._place, self._chosen, self._shipped = place, chosen, shipped

    def __getitem__(self, name: str) -> Any:
        return self._chosen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def refuse(self, name: str, allowed: str) -> ConfigError:
        """The error for the value of a setting."""
        return ConfigError(f"{self._place}.{name}", self[name], allowed)

    def require_one_of(self, name: str, allowed: Sequence[object]) -> None:
        require_one_of(f"{self._place}.{name}", self[name], allowed)

    def require_text(self, name: str, what: str) -> None:
        """Refuse null and what is no text; `what` says what has to be given."""
        value = self[name]
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(name, f"allowed is {what}")

    def require_environment_names(self) -> None:
        """Refuse a setting `*_env` that names no environment variable, and may be a secret."""
        for name, value in self.items():
            if name.endswith(_ENVIRONMENT) and value is not None and not _names_variable(value):
                allowed = "allowed is the name of an environment variable that is set"
                raise self.refuse(name, allowed)

    def require_whole(self, name: str, *, at_least: int, at_most: int | None = None) -> None:
        require_whole(f"{self._place}.{name}", self[name], at_least=at_least, at_most=at_most)

    def require_options(self, name: str) -> None:
        """Options by name, or null."""
        if not isinstance(self[name], Mapping | None):
            raise self.refuse(name, "allowed are options by name")

    def require_beside(self, name: str, other: str, needed: Sequence[object]) -> None:
        """Refuse a setting that would be ignored beside the present value of another one."""
        if self[name] != self._shipped[name] and self[other] not in needed:
            beside = " or ".join("null" if one is None else str(one) for one in needed)
            raise self.refuse(name, f"allowed beside {other}={beside}, not {self[other]}")


def _names_variable(value: object) -> bool:
    return isinstance(value, str) and value in os.environ


def check_by_room(module: str, settings: Settings) -> None:
    """Have a module of a room check settings, where the room has such a module."""
    if _is_there(module):
        import_module(module).check(settings)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False
