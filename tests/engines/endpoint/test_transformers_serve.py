"""The embedded checkpoint behind the library's own server answers as it does in this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from profiling.report.command import main as report
from tests.composing import PROJECT

MISSING = [name for name in ("fastapi", "openai", "starlette", "uvicorn") if not find_spec(name)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"requirements-serve.txt is not installed: no {', '.join(MISSING)}"
    ),
]
MODEL = "qwen25vl"
FOLDER = PROJECT / "checkpoints" / "tiny" / MODEL
SAMPLES = 120
LEAST_EQUAL = 118
SAME_COUNTS = ("num_prompt_tokens", "num_new_tokens", "image_width", "image_height")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "profiling.engines.transformers.serve", "--model", MODEL)
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=PROJECT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail("the server did not start")


@pytest.fixture(scope="module")
def results(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of both engines."""
    folder = tmp_path_factory.mktemp("engines")
    served = ("engine=endpoint", f"engine.url={url}", f"engine.model={FOLDER}")
    for engine in (("engine=torch",), served):
        run(folder / "results", *engine)
    return folder / "results"


def run(results: Path, *overrides: str) -> None:
    command = (sys.executable, "main.py", f"model={MODEL}")
    settings = ("profiler=quick", f"num_samples={SAMPLES}", "share_device=true")
    subprocess.run(
        [*command, *settings, f"results_dir={results}", *overrides],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        timeout=600,
    )


def read(results: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The record and the answers of each engine."""
    found = {}
    for path in results.glob("*/run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        lines = (path.parent / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        found[record["config"]["engine"]["name"]] = record, [json.loads(line) for line in lines]
    return found


def test_the_answers_are_those_of_the_torch_engine(results: Path) -> None:
    (_, torch), (_, served) = (read(results)[name] for name in ("torch", "endpoint"))
    pairs = list(zip(torch, served, strict=True))
    assert len(pairs) == SAMPLES
    different = [(a, b) for a, b in pairs if a["answer"] != b["answer"]]
    assert SAMPLES - len(different) >= LEAST_EQUAL, different
    assert all(a[name] == b[name] for a, b in pairs for name in SAME_COUNTS)


def test_times_have_intervals(results: Path) -> None:
    summary = read(results)["endpoint"][0]["summary"]
    for name in ("ttft", "tpot", "latency"):
        ends = [summary[f"{name}_ci_{end}_s"] for end in ("low", "high")]
        assert 0 < ends[0] <= summary[f"{name}_s"] <= ends[1]


def test_the_server_goes_on_to_the_exact_length(results: Path) -> None:
    summary = read(results)["endpoint"][0]["summary"]
    assert summary["exact_length_share"] == 1
    assert summary["server_identified"] == 1
    assert summary["picture_effect"] > 0


def test_memory_of_the_server_is_charged(results: Path) -> None:
    found = read(results)
    served, torch = (found[name][0]["summary"] for name in ("endpoint", "torch"))
    assert served["cpu_memory_peak_bytes"] > 0.3 * torch["cpu_memory_peak_bytes"]
    assert served["load_s"] is None


def test_a_page_shows_both_engines_side_by_side(results: Path, tmp_path: Path) -> None:
    assert report([str(results), "--output", str(tmp_path)]) == 0
    page = (tmp_path / f"{MODEL}.md").read_text(encoding="utf-8")
    assert "## Engine" in page
    assert "| endpoint |" in page and "| torch |" in page


def test_a_batch_is_as_many_requests(url: str, tmp_path: Path) -> None:
    served = ("engine=endpoint", f"engine.url={url}", f"engine.model={FOLDER}")
    run(tmp_path, *served, "batch_size=4", "num_samples=8")
    summary = read(tmp_path)["endpoint"][0]["summary"]
    # This server takes one request after another: the others queue.
    assert summary["streams_at_once"] == pytest.approx(1, abs=0.2)
    assert summary["ttft_s"] > summary["tpot_s"]
