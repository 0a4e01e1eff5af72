"""Inputs and outputs of module calls: capturing, storing, replaying, judging functions by them.

from profiling.captures import capture
with capture(network, "folder"):
    network(**inputs)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from profiling.captures.capturing import Capturing

# What a capture holds at most where nobody says.
CALLS, BYTES, MODULES = 4, 2 * 2**30, 10_000


def capture(
    module: nn.Module,
    folder: Path | str,
    *,
    modules: str | Sequence[str] = "*",
    max_modules: int = MODULES,
    calls: int = CALLS,
    max_bytes: int = BYTES,
    weights: bool = True,
) -> Capturing:
    """Capture the calls of a module and of the modules inside of it: `with capture(...):`.

    `modules` is a pattern of paths, such as "model.visual*", or several. Also a decorator of
    a function that calls the module.
    """
    # Imported here, so that commands of this room report a mistake before they import a framework.
    from profiling.captures.capturing import Bounds, Capturing

    bounds = Bounds(
        modules=(modules,) if isinstance(modules, str) else tuple(modules),
        max_modules=max_modules,
        calls=calls,
        bytes=max_bytes,
        file_bytes=64 * 2**20,
    )
    return Capturing(module, folder, bounds, facts={"point": None}, weights=weights)
