"""Settings that every test runs under: one thread, no hub, no chatter, GPU tests on GPUs only."""

from __future__ import annotations

import os
import tempfile

import pytest

from profiling.machine.machine import available_devices

# before torch and transformers are imported, by this process or by one that a test starts
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# a test neither waits for a device that somebody is measuring on, nor leaves peaks in a home
_OWN = tempfile.TemporaryDirectory(prefix="vlm-profiling-tests-")
os.environ["TMPDIR"] = os.environ["XDG_CACHE_HOME"] = _OWN.name
tempfile.tempdir = _OWN.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(device.startswith("cuda") for device in available_devices()):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
