"""What other modules need to know of a field of a point, declared once with the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

_METADATA = "key"


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A composed configuration, and the facts that `auto` and null are resolved with."""

    config: Mapping[str, Any]
    device: str
    cores: int

    def __getitem__(self, name: str) -> Any:
        """The value of a key, which may be a dotted name."""
        value: Any = self.config
        for step in name.split("."):
            value = value[step]
        return value


# From a composed configuration, the value of the key of this name.
Reader = Callable[[Composed, str], Any]
# What a label says of a key of this name with this value; None: nothing.
Label = Callable[[str, Any], str | None]


@dataclass(frozen=True, kw_only=True)
class Key:
    """The declaration of a field.

    A field with `compare=False` changes nothing that is measured: the fingerprint leaves it out.
    """

    # Where it is in the configuration that is typed and in the one that is recorded.
    name: str
    # What the help says of it; None: nothing.
    help: str | None
    # Takes the value from a composed configuration and refuses a wrong one.
    read: Reader
    # The value as it is recorded.
    plain: Callable[[Any], Any]
    # Whether the record's configuration has a value.
    in_record: Callable[[Any], bool]
    # Whether the fingerprint covers, by a digest, what the value names instead of the value.
    by_content: bool
    # Whether a loaded model serves points of one value only; asked of the point.
    loads: Callable[[Any], bool]
    # The value in a few letters, for the label and the summary.
    shown: Callable[[Any], Any]
    label: Label
    # Whether the summary has a column of the root's name for it.
    in_summary: bool

    @property
    def root(self) -> str:
        return self.name.partition(".")[0]


def always(_: object) -> bool:
    return True


def never(_: object) -> bool:
    return False


def unchanged(value: Any) -> Any:
    return value


def unlabelled(_name: str, _value: object) -> None:
    return None


def bare(_name: str, value: object) -> str:
    return str(value)


def named(name: str, value: object) -> str | None:
    return None if value is None else f"{name}={value}"


def key(
    name: str,
    *,
    read: Reader,
    help: str | None = None,
    plain: Callable[[Any], Any] = unchanged,
    in_record: Callable[[Any], bool] = always,
    by_content: bool = False,
    loads: Callable[[Any], bool] = never,
    shown: Callable[[Any], Any] = unchanged,
    label: Label = unlabelled,
    in_summary: bool = False,
) -> Mapping[str, Key]:
    """The metadata of a field; what is left out holds for most fields."""
    declared = Key(
        name=name,
        help=help,
        read=read,
        plain=plain,
        in_record=in_record,
        by_content=by_content,
        loads=loads,
        shown=shown,
        label=label,
        in_summary=in_summary,
    )
    return {_METADATA: declared}


def declarations(kind: Any) -> Iterator[tuple[Field[Any], Key]]:
    """The fields of a point, or of a class of points, with their declarations."""
    for field in fields(kind):
        yield field, field.metadata[_METADATA]


def root_keys(kind: Any) -> tuple[str, ...]:
    """The keys at the root of the configuration that a class of points is read from."""
    return tuple(dict.fromkeys(declared.root for _, declared in declarations(kind)))


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as a mapping of mappings."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = nested
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return nested
