"""Nested weights that note which of them a function looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class WatchedDict(dict[Any, Any]):
    """A dict that notes the names that are taken from it."""

    def __init__(self, part: Mapping[Any, Any], path: str, read: set[str]) -> None:
        super().__init__({name: watch(v, read, _join(path, name)) for name, v in part.items()})
        self._path, self._seen = path, read

    def _note(self, name: Any) -> None:
        self._seen.add(_join(self._path, name))

    def __iter__(self) -> Iterator[Any]:
        # With this defined, `{**weights}` takes each value by its name and not past this class.
        return super().__iter__()

    def __getitem__(self, name: Any) -> Any:
        value = super().__getitem__(name)
        self._note(name)
        return value

    def get(self, name: Any, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def pop(self, name: Any, *default: Any) -> Any:
        self._note(name)
        return super().pop(name, *default)

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class WatchedList(list[Any]):
    """A list that notes the positions that are taken from it."""

    def __init__(self, part: Iterable[Any], path: str, read: set[str]) -> None:
        super().__init__(watch(v, read, _join(path, i)) for i, v in enumerate(part))
        self._path, self._seen = path, read

    def _note(self, position: int) -> None:
        self._seen.add(_join(self._path, position % max(len(self), 1)))

    def __getitem__(self, position: Any) -> Any:
        for one in range(len(self))[position] if isinstance(position, slice) else [position]:
            self._note(one)
        return super().__getitem__(position)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def watch(part: Any, read: set[str], path: str = "") -> Any:
    """The same nesting; names with dots of what is looked at are added to `read`."""
    if isinstance(part, list):
        return WatchedList(part, path, read)
    return WatchedDict(part, path, read) if isinstance(part, dict) else part


def unread_names(names: Iterable[str], read: set[str]) -> list[str]:
    return [name for name in names if name not in read]
