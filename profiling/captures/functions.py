"""What a function is given that does the work of a module, and what it returns.

A file of functions has a table `MODULES: Mapping[str, Callable]`: the class name of a module, and
the function that does the work of every module of that class:

    def norm(weights, settings, arguments):
        x = arguments["hidden_states"]
        ...
        return y

    MODULES = {"MyRMSNorm": norm}

`weights`
    The module's own parameters and buffers, buffers that no checkpoint stores included, as nested
    dicts by name: `weights["mlp"][0]["bias"]`. Names that are numbers are positions of a list;
    where numbers are missing (an activation between two layers has no weights), a dict with whole
    numbers as keys takes its place. `{}` for a module without weights. The arrays belong to the
    library that the functions run in.

`settings`
    A `Settings`: `settings.module["variance_epsilon"]` is a plain attribute of the module,
    `settings.parts["ln_q"]["variance_epsilon"]` one of a module inside of it, `settings.config` the
    configuration of the module, or of the nearest module around it that has one, as a dict.
    Tuples are lists in it.

`arguments`
    An `Arguments`: `arguments["hidden_states"]` finds an argument by the name that `forward` has
    for it, however it was passed; `arguments.get(name)` is None where it was not passed (defaults
    of `forward` are not filled in). `arguments.args` and `arguments.kwargs` are the call's own.
    Tensors are arrays of the functions' library; the library's outputs are dicts by field. A cache
    is what it held before the call, as a dict `{layer: (keys, values)}` that lacks the layers that
    held nothing; a cache with two halves is `{"self": {...}, "cross": {...}}`.

The result has the structure of what the module returns: an array, a tuple or list by position, or a
dict by field or key. Parts may be left out: of a dict by leaving out the key, of a tuple by a
shorter one or None in their place; what is left out is reported as not compared. One array stands
for the first array of a structure. A function of a module that writes into a cache may return
`{"output": <the result>, "cache": {layer: (keys, values)}}` instead, with what the cache holds
after the call (two halves as above); then that is compared as well. Floating-point results are in
the dtype of what the module returns; in NumPy, which has no bfloat16, in float32 in its place.

Functions are called twice for each captured call: with arrays of the captured dtype, and with
everything that is floating-point in float64 (weights, buffers and arguments). They follow the dtype
of what they are given: a constant that the original computes in float32 and then uses in a wider
type, such as the frequencies of rotary positions, is a buffer in `weights`, or is computed in
float32 first, too. They neither change what they are given nor depend on earlier calls: every call
gets copies of its own, and one that writes into them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# The name of the table in a file of functions.
TABLE = "MODULES"

Function = Callable[[Any, "Settings", "Arguments"], Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a module computes by, besides its weights and arguments: plain values only."""

    path: str  # where it is in the network; "" for the network itself
    kind: str  # the name of its class
    module: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]  # by the path inside of the module
    config: Mapping[str, Any]  # {} where no module around it has one


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """One call's arguments, by the names of `forward`'s parameters as well."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]  # of the parameters that may be passed by position

    def named(self) -> dict[str, Any]:
        return {**dict(zip(self.names, self.args, strict=False)), **self.kwargs}

    def __getitem__(self, name: str) -> Any:
        return self.named()[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.named().get(name, default)
