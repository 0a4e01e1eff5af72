"""A process that may not have the memory that a model needs leaves a record that says so."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.records import OUT_OF_MEMORY, read
from tests.composing import PROJECT

LIMIT_BYTES = 8 * 2**30


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_out_of_memory(tmp_path: Path) -> None:
    keys = ["model=llava", "weights=random", "profiler=quick", "num_samples=1", "max_new_tokens=2"]
    done = subprocess.run(
        [sys.executable, str(PROJECT / "main.py"), *keys, f"results_dir={tmp_path}"],
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        preexec_fn=limit_memory,
        capture_output=True,
        text=True,
        timeout=600,
    )
    (record,) = read(tmp_path).records
    assert record.status == OUT_OF_MEMORY, record.run["error"]
    assert done.returncode == 1 and "Traceback" not in done.stderr
