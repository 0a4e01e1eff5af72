"""Settings for every test: one thread, no hub, no progress bars, repeatable property tests."""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
from pathlib import Path

# before NumPy, torch and transformers are imported, by this process or by one that a test starts
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import pytest
from hypothesis import settings

from profiling.machine.machine import available_devices

# a test neither waits for a device that somebody is measuring on, nor leaves peaks in a home
_OWN = tempfile.TemporaryDirectory(prefix="vlm-profiling-tests-")
os.environ["TMPDIR"] = os.environ["XDG_CACHE_HOME"] = _OWN.name
tempfile.tempdir = _OWN.name
# Exports take seconds each, and composed configurations add up: processes that run side by side
# share them. The first one makes the folders; those that it starts find their names.
_GRAPHS = os.environ.setdefault("VLM_PROFILING_TEST_GRAPHS", str(Path(_OWN.name, "graphs")))
Path(_GRAPHS).mkdir(exist_ok=True)
_COMPOSED = os.environ.setdefault("VLM_PROFILING_TEST_COMPOSED", str(Path(_OWN.name, "composed")))
Path(_COMPOSED).mkdir(exist_ok=True)
Path(_OWN.name, "vlm-profiling").mkdir()
Path(_OWN.name, "vlm-profiling", "onnx").symlink_to(_GRAPHS)

# `make test` gives the same outcome every time; `make test-all` asks for other examples each time.
# No deadlines: a busy machine is not a wrong answer.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Have numbers not depend on which tests ran before: drawn ones by seed, sums by threads."""
    random.seed(0)
    numpy.random.seed(0)
    # A test that needs no torch must find out whether it is imported.
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
        # a run in this process leaves those it was configured with
        torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Leave what was imported out of the search for garbage, a tenth of the time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(device.startswith("cuda") for device in available_devices()):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
