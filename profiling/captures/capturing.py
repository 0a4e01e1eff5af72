"""Captures what modules are called with and what they return, with hooks; no edit of the network.

    with Capturing(network, "folder", Bounds(...)):
        network(**inputs)

The folder appears under its name when it is complete. A call is stored whole or not at all, and
what was left out is named with the reason.
"""

from __future__ import annotations

import fnmatch
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, ContextDecorator, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import transformers
from torch import nn

from profiling.captures.encoding import Encoder, object_of, quoted
from profiling.captures.folder import CALLS, DESCRIPTION, FORMAT, WEIGHTS, dump_json
from profiling.captures.module_settings import describe_modules, layers_of
from profiling.captures.tensor_files import TensorWriter
from profiling.captures.weight_files import digests_of, save_weights
from profiling.errors import ConfigError

_CALLS, _BYTES, _RAISED = "the limit of calls", "the limit of bytes", "the call raised an error"
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much a capture may hold; weights that are saved with it are not counted."""

    modules: tuple[str, ...]  # patterns of paths, as file names have them
    max_modules: int
    calls: int  # of each module, the first ones
    bytes: int  # of the folder
    file_bytes: int  # of a file of tensors, about

    def choose(self, network: nn.Module) -> tuple[dict[str, nn.Module], list[str]]:
        """The modules to watch, and the paths that are too many."""
        named = {
            path: module
            for path, module in network.named_modules()
            if not isinstance(module, _CONTAINERS)
            and any(fnmatch.fnmatchcase(path, pattern) for pattern in self.modules)
        }
        if not named:
            reason = "no module has such a path; '*' are all, 'a.*' all inside of a"
            raise ConfigError("modules", " ".join(self.modules), reason)
        paths = list(named)
        chosen = {path: named[path] for path in paths[: self.max_modules]}
        return chosen, paths[self.max_modules :]


@dataclass(kw_only=True)
class _Call:
    """A call that has begun; `uses` are the tensors it holds in the store."""

    id: int
    module: str
    line: str  # in JSON, without what the call has not given yet
    layer: int | None
    caches: list[str]
    uses: list[str]


@dataclass(kw_only=True)
class _Log:
    """What was stored and what was not."""

    lines: list[str] = field(default_factory=list)
    line_bytes: int = 0
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    opaque: Counter[str] = field(default_factory=Counter)

    def leave_out(self, path: str, reason: str) -> None:
        self.left_out.setdefault(path, Counter())[reason] += 1


class Capturing(ContextDecorator):
    """A context manager, or a decorator of a function that calls the network."""

    def __init__(
        self,
        network: nn.Module,
        folder: Path | str,
        bounds: Bounds,
        *,
        facts: Mapping[str, Any],
        weights: bool,
    ) -> None:
        self.folder = Path(folder)
        self._network, self._bounds, self._facts = network, bounds, facts
        self._weights = weights
        # Calls of each module; a caller with several batches raises it from one to the next.
        self.limit = bounds.calls
        self._watched, self._unwatched = bounds.choose(network)
        require_free(self.folder)

    def __enter__(self) -> Self:
        require_free(self.folder)
        self._modules, self._configs = describe_modules(self._network)
        self._digests = digests_of(self._network)
        described = self._describing_bytes()
        if described > self._bounds.bytes:
            allowed = f"allowed is a number from {described}, for the description alone"
            raise ConfigError("bytes", self._bounds.bytes, allowed)
        # The reasons for which calls may be left out, too.
        self._reserved = described + 64 * len(self._watched)
        parent = self.folder.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.folder.name}-"
        self._unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._store = TensorWriter(folder=self._unfinished, file_bytes=self._bounds.file_bytes)
        self._log = _Log()
        self._encoder = Encoder(add=self._add, opaque=self._note_opaque)
        self._open: list[_Call | None] = []
        self._begun: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self._layers = layers_of(self._watched)
        self._handles = [
            handle for path, module in self._watched.items() for handle in self._hook(path, module)
        ]
        self._eager = _run_eagerly()
        self._eager.__enter__()
        return self

    def _describing_bytes(self) -> int:
        """About those of the description: what it says of modules, and of each what is left out."""
        known = [self._modules, self._configs, self._digests, dict(self._facts), self._unwatched]
        return len(dump_json(known)) + sum(len(path) + 32 for path in self._watched) + 4096

    def _hook(self, path: str, module: nn.Module) -> list[Any]:
        # A shallow copy of a module has its hooks too, and is another module.
        def before(called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if called is module:
                self._begin(path, args, kwargs)

        def after(called: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            if called is module:
                self._end(path, args, kwargs, output)

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            # Called where the module raises, too, so that no call stays open.
            module.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]

    # One call

    def _add(self, tensor: Any) -> str:
        name = self._store.add(tensor)
        self._uses.append(name)
        return name

    def _note_opaque(self, kind: str) -> None:
        self._log.opaque[kind] += 1

    def _begin(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        number = self._begun[path]
        self._begun[path] += 1
        if self._taken[path] >= self.limit:
            self._log.leave_out(path, _CALLS)
            self._open.append(None)
            return
        layer = self._layers[path]
        self._uses: list[str] = []
        self._encoder.begin()
        id_ = len(self._log.lines)
        parent = next((call.id for call in reversed(self._open) if call), None)
        around = "null" if parent is None else parent
        line = f'{{"id": {id_}, "parent": {around}, "module": {quoted(path)}, "number": {number}'
        left_out = None
        # Before the call, since caches are written into.
        try:
            line += f', "args": {self._encoder.listed(args, layer)}'
            line += f', "kwargs": {self._encoder.named(kwargs, layer)}'
        except OSError:  # the folder cannot be written
            raise
        except Exception as error:
            left_out = _unreadable(error)
        if left_out is None and self._is_too_much(0):
            left_out = _BYTES
        if left_out is not None:
            self._store.release(self._uses)
            self._log.leave_out(path, left_out)
            self._open.append(None)
            return
        caches = _caches_in(args, kwargs)
        call = _Call(id=id_, module=path, line=line, layer=layer, caches=caches, uses=self._uses)
        self._taken[path] += 1
        self._log.lines.append("")
        self._open.append(call)

    def _end(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._open.pop() if self._open else None
        if call is None:
            return
        self._uses = call.uses
        if output is None and _is_raising():
            self._drop(call, _RAISED)
            return
        try:
            line = f"{call.line}{self._results(call, args, kwargs, output)}}}\n"
        except OSError:  # the folder cannot be written
            raise
        except Exception as error:
            self._drop(call, _unreadable(error))
            return
        if self._is_too_much(len(line)):
            self._drop(call, _BYTES)
            return
        self._log.lines[call.id] = line
        self._log.line_bytes += len(line)
        self._store.keep(call.uses)

    def _results(self, call: _Call, args: Any, kwargs: Mapping[str, Any], output: Any) -> str:
        """The fields that a call's line has after the call."""
        self._encoder.begin()
        told = f', "output": {self._encoder.encode(output, call.layer)}'
        if not call.caches:
            return told
        named: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        after = {}
        for name in call.caches:
            self._encoder.begin()
            after[str(name)] = self._encoder.encode(named[name], call.layer)
        return f'{told}, "caches_after": {object_of(after)}'

    def _is_too_much(self, line_bytes: int) -> bool:
        taken = self._store.bytes + self._log.line_bytes + line_bytes + self._reserved
        return taken > self._bounds.bytes

    def _drop(self, call: _Call, reason: str) -> None:
        self._store.release(call.uses)
        self._log.leave_out(call.module, reason)

    # All calls

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._eager.__exit__(None, None, None)
        for handle in self._handles:
            handle.remove()
        try:
            self._finish(None if kind is None else f"{kind.__name__}: {error}")
            require_free(self.folder)
            self._unfinished.chmod(0o755)
            self._unfinished.rename(self.folder)
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def _finish(self, interrupted: str | None) -> None:
        for call in filter(None, self._open):
            self._drop(call, _RAISED)
        self._store.flush()
        (self._unfinished / CALLS).write_text("".join(self._log.lines), encoding="utf-8")
        if self._weights:
            save_weights(self._network, self._unfinished / WEIGHTS)
        text = dump_json(self._describe(interrupted)) + "\n"
        (self._unfinished / DESCRIPTION).write_text(text, encoding="utf-8")

    def _describe(self, interrupted: str | None) -> dict[str, Any]:
        called = {path for path, count in self._begun.items() if count}
        return {
            "format": FORMAT,
            "network": type(self._network).__name__,
            "made_with": made_with(),
            "interrupted": interrupted,
            **self._facts,
            "bounds": asdict(self._bounds),
            "modules": self._modules,
            "configs": self._configs,
            "weights": self._digests,
            "calls": sum(map(bool, self._log.lines)),
            "files": self._store.files,
            "offered_bytes": self._store.offered_bytes,
            "opaque": dict(self._log.opaque),
            "left_out": {
                "calls": {path: dict(counts) for path, counts in self._log.left_out.items()},
                "modules_over_the_limit": self._unwatched,
                "modules_never_called": [path for path in self._watched if path not in called],
            },
        }


def _run_eagerly() -> AbstractContextManager[Any]:
    """Hooks inside of compiled code would be compiled away.

    Where the compiler was never imported, nothing is compiled; to import it takes seconds.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def made_with() -> dict[str, str]:
    """The versions that a bit-equal replay depends on."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _caches_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    named: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    return [n for n, value in named.items() if isinstance(value, transformers.cache_utils.Cache)]


def _unreadable(error: Exception) -> str:
    """Values are of any class, and may raise anything or contain themselves."""
    return f"a value raised {type(error).__name__} when it was read"


def _is_raising() -> bool:
    return sys.exc_info()[0] is not None


def require_free(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise ConfigError("output", folder, "exists already; name a folder that does not")
