"""What `optimization.token_pruning` may be given."""

from __future__ import annotations

from pathlib import Path

from profiling.points.readers import LARGEST_SEED
from profiling.points.settings import Settings

_METHODS = Path(__file__).parents[2] / "token_reduction" / "methods"

# Methods cannot be asked where settings are checked: they import a framework.
_BY_DECODER = frozenset({"fastv"})
_BY_ENCODER = frozenset({"visionzip", "prumerge"})


def check(settings: Settings) -> None:
    names = sorted(path.stem for path in _METHODS.glob("[!_]*.py"))
    settings.require_one_of("method", names)
    if not 0 < settings["keep"] <= 1:
        raise settings.refuse("keep", "allowed is a number above 0 and up to 1")
    if settings["layer"] is not None:
        settings.require_whole("layer", at_least=0)
    if settings["method"] in _BY_DECODER and settings["layer"] == 0:
        raise settings.refuse("layer", "the method goes by a decoder layer; allowed is from 1")
    if settings["method"] in _BY_ENCODER and settings["layer"]:
        raise settings.refuse("layer", "the method chooses before the decoder; allowed is 0")
    settings.require_whole("seed", at_least=0, at_most=LARGEST_SEED)
