"""What the settings of engines may be whose parts run as graphs in a runtime."""

from __future__ import annotations

from importlib.util import find_spec

from profiling.graphs.choices import PRECISIONS
from profiling.points.settings import Settings
from profiling.runtimes.offered import CACHES, COMPUTED, MODES, PARTS, STORED

PROVIDER, ONEDNN = "provider", "onednn"
BUCKETS = ("prompt_multiple", "cache_multiple")


def check(settings: Settings) -> None:
    runtime = settings.get("runtime")
    if runtime is None:
        return
    # It names code, as the name of the yaml does.
    settings.require_one_of("runtime", [settings["name"]])
    _check_parts(settings)
    allowed = [kind for kind in PRECISIONS if kind in STORED[runtime]]
    settings.require_one_of("precision", (None, *allowed))
    if "compute" in settings:
        settings.require_one_of("compute", COMPUTED)
    if "cache" in settings:
        settings.require_one_of("cache", CACHES)
    if runtime in MODES:
        settings.require_one_of("mode", MODES[runtime])
        for name in (*BUCKETS, ONEDNN):
            # Where operators run one by one, lengths are as they are.
            if name in settings:
                settings.require_beside(name, "mode", MODES[runtime][1:])
    for name in BUCKETS:
        if name in settings:
            settings.require_whole(name, at_least=1)
    if PROVIDER in settings:
        settings.require_options("provider_options")
        _check_provider(settings)


def _check_parts(settings: Settings) -> None:
    parts = settings["parts"]
    is_right = isinstance(parts, list | tuple) and parts and set(map(str, parts)) <= set(PARTS)
    if parts is not None and not (is_right and len(set(parts)) == len(parts)):
        raise settings.refuse("parts", f"allowed are null and a list of {', '.join(PARTS)}")


def _check_provider(settings: Settings) -> None:
    # Without the runtime, the worker says that it is missing.
    if settings[PROVIDER] is not None and find_spec("onnxruntime"):
        from onnxruntime import get_all_providers

        settings.require_one_of(PROVIDER, (*get_all_providers(), None))
