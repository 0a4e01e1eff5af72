"""A capture as it lies on disk, read with every claim in it checked.

    capture.json                what ran, what each module is, and what was left out
    calls.jsonl                 one call a line: id, parent, module, number, arguments, output
    tensors-00000.safetensors   each tensor once, by a digest of what it holds
    weights.safetensors         the network's weights, where they were asked for

Nothing in a folder is executed, and no path in it is followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from profiling.captures.encoding import Decoder, Malformed
from profiling.captures.tensor_files import TensorReader, broken, require_file
from profiling.errors import ConfigError

DESCRIPTION, CALLS, WEIGHTS = "capture.json", "calls.jsonl", "weights.safetensors"
FORMAT = 2
# Far more than any network needs, and little enough to be read.
_LARGEST_JSON = 512 * 2**20
_LARGEST_LINE = 64 * 2**20
_DEEPEST = 100


def dump_json(value: object) -> str:
    return json.dumps(value, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a module, still encoded."""

    id: int
    parent: int | None
    module: str
    number: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: Any
    caches_after: Mapping[str, Any]


class Capture:
    """The calls of a folder, with their tensors back in their places."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ConfigError("capture", folder, "there is no such folder")
        self.facts = _read_description(folder)
        self.modules: dict[str, dict[str, Any]] = self.facts["modules"]
        self._tensors = TensorReader(folder, files=self.facts["files"])
        self.calls = list(_read_calls(folder, self.modules))
        if len(self.calls) != self.facts["calls"]:
            told = f"{CALLS} has {len(self.calls)} calls, {DESCRIPTION} says {self.facts['calls']}"
            raise broken(folder, told)
        self.by_id = {call.id: call for call in self.calls}

    # What ran

    @cached_property
    def weights_path(self) -> Path | None:
        path = self.folder / WEIGHTS
        return require_file(path) if path.exists() or path.is_symlink() else None

    def kind(self, call: Call) -> str:
        return str(self.modules[call.module]["class"])

    def config(self, path: str) -> dict[str, Any]:
        """The configuration of a module, or of the nearest module around it that has one."""
        while True:
            number = self.modules.get(path, {}).get("config")
            if number is not None:
                return dict(self.facts["configs"][number])
            if not path:
                return {}
            path = path.rpartition(".")[0]

    # Calls

    def decode(self, call: Call, value: Any, decoder: Decoder) -> Any:
        try:
            return decoder.decode(value)
        except ConfigError:
            raise
        except RecursionError:
            raise broken(self.folder, f"{CALLS}, call {call.id}: nested too deeply") from None
        except (Malformed, TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
            what = f"{CALLS}, call {call.id}: a value that cannot be: {error}"
            raise broken(self.folder, what) from None

    def _decoder(self, device: str, floats: torch.dtype | None = None) -> Decoder:
        return Decoder(read=self._tensors.read, device=device, floats=floats)

    def arguments(
        self, call: Call, device: str = "cpu", floats: torch.dtype | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh arguments, which a module may write into; what was one object is one again."""
        decoder = self._decoder(device, floats)
        args = tuple(self.decode(call, value, decoder) for value in call.args)
        return args, {n: self.decode(call, value, decoder) for n, value in call.kwargs.items()}

    def output(self, call: Call, device: str = "cpu") -> Any:
        return self.decode(call, call.output, self._decoder(device))

    def caches_after(self, call: Call, device: str = "cpu") -> dict[str, Any]:
        """The caches that the call was given, by position or name, as it left them."""
        return {
            name: self.decode(call, value, self._decoder(device))
            for name, value in call.caches_after.items()
        }

    def parents(self, call: Call) -> Iterator[int]:
        """The calls around a call, from the nearest on."""
        above = call.parent
        while above is not None:
            yield above
            found = self.by_id.get(above)
            above = found.parent if found else None


def _read_json(folder: Path, where: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise broken(folder, f"{where} is not JSON: {what}") from None
    if not isinstance(value, dict):
        raise broken(folder, f"{where} is not an object")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _read_text(path: Path, at_most: int) -> str:
    try:
        return require_file(path, at_most=at_most).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise broken(path.parent, f"{path.name} cannot be read: {error}") from None


# The fields that are relied on, and what each has to be.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "network": str,
    "made_with": dict,
    "modules": dict,
    "configs": list,
    "weights": dict,
    "calls": int,
    "files": int,
    "opaque": dict,
    "left_out": dict,
}
_MODULE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "class": str,
    "settings": dict,
    "parameters": list,
    "config": (int, type(None)),
}
_LEFT_OUT: dict[str, type | tuple[type, ...]] = {
    "calls": dict,
    "modules_over_the_limit": list,
    "modules_never_called": list,
}
_CALL_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": int,
    "parent": (int, type(None)),
    "module": str,
    "number": int,
    "args": list,
    "kwargs": dict,
}


def _require(
    folder: Path, where: str, value: Any, fields: Mapping[str, type | tuple[type, ...]]
) -> None:
    if not isinstance(value, dict):
        raise broken(folder, f"{where} is not an object")
    for name, kind in fields.items():
        found = value.get(name)
        if name not in value or not isinstance(found, kind) or isinstance(found, bool):
            raise broken(folder, f"{where}: {name} is missing or of another kind")
        if isinstance(found, int) and found < 0:
            raise broken(folder, f"{where}: {name} is negative")


def _read_description(folder: Path) -> dict[str, Any]:
    text = _read_text(folder / DESCRIPTION, _LARGEST_JSON)
    facts = _read_json(folder, DESCRIPTION, text)
    _require(folder, DESCRIPTION, facts, _FIELDS)
    if facts["format"] != FORMAT:
        raise broken(folder, f"format {facts['format']}; this version reads {FORMAT}")
    _require(folder, f"{DESCRIPTION}, left_out", facts["left_out"], _LEFT_OUT)
    configs = facts["configs"]
    for path, module in facts["modules"].items():
        if path.count(".") >= _DEEPEST:
            raise broken(folder, f"{DESCRIPTION}, module {path[:80]}: nested too deeply")
        _require(folder, f"{DESCRIPTION}, module {path[:80]}", module, _MODULE_FIELDS)
        if not all(isinstance(name, str) for name in module["parameters"]):
            raise broken(folder, f"{DESCRIPTION}, module {path[:80]}: parameters are not texts")
        if module["config"] is not None and module["config"] >= len(configs):
            raise broken(folder, f"{DESCRIPTION}, module {path[:80]}: there is no such config")
    if not all(isinstance(config, dict) for config in configs):
        raise broken(folder, f"{DESCRIPTION}: a config is not an object")
    return facts


def _read_calls(folder: Path, modules: Mapping[str, Any]) -> Iterator[Call]:
    text = _read_text(folder / CALLS, _LARGEST_JSON)
    seen: set[int] = set()
    for number, line in enumerate(text.split("\n")[:-1] if text else [], start=1):
        where = f"{CALLS} line {number}"
        if len(line) > _LARGEST_LINE:
            raise broken(folder, f"{where} is too long")
        told = _read_json(folder, where, line)
        _require(folder, where, told, _CALL_FIELDS)
        if told["module"] not in modules:
            raise broken(folder, f"{where}: no module is called {told['module'][:80]}")
        if told["id"] in seen or (told["parent"] is not None and told["parent"] >= told["id"]):
            raise broken(folder, f"{where}: calls are not numbered in their order")
        if "output" not in told or not isinstance(told.get("caches_after", {}), dict):
            raise broken(folder, f"{where}: output or caches_after is missing or of another kind")
        for name in told.get("caches_after", {}):
            if name not in told["kwargs"] and name not in map(str, range(len(told["args"]))):
                raise broken(folder, f"{where}: caches_after names no argument: {name[:80]}")
        seen.add(told["id"])
        yield Call(
            **{name: told[name] for name in _CALL_FIELDS},
            output=told["output"],
            caches_after=told.get("caches_after", {}),
        )
