"""The command that prints what a point costs: its figures, and how it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.cost import describe, main, read_arguments
from profiling.probes.flops import FlopsProbe
from tests.costs.published_sizes import PARAMETERS
from tests.tiny_models import FAMILIES, load, make_workload

PROJECT = Path(__file__).resolve().parent.parent


def table(*arguments: str) -> dict[str, list[str]]:
    """The columns of each phase."""
    lines = list(describe(read_arguments(arguments)))
    start = next(i for i, line in enumerate(lines) if line.startswith("phase"))
    end = lines.index("", start)
    return {words[0]: words[1:] for words in map(str.split, lines[start + 1 : end])}


@pytest.mark.parametrize("name", FAMILIES)
def test_tiny_costs_are_those_that_a_run_records(name: str) -> None:
    printed = table(f"model={name}", "weights=tiny", "batch_size=2", "max_new_tokens=4")
    workload = make_workload(load(name), batch_size=2, max_new_tokens=4, count=2)
    for reading in FlopsProbe(cross_check=False).measure(workload):
        if reading.metric in ("flops", "flops_vision", "flops_prefill", "flops_decode"):
            assert reading.value is not None
            shown = float(printed[reading.phase][0].replace(",", ""))
            assert shown == pytest.approx(reading.value / 1e9, abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_full_size_needs_no_weights(name: str) -> None:
    lines = list(describe(read_arguments([f"model={name}", "prompt_len=50", "batch_size=4"])))
    assert f"{PARAMETERS[name]:,} parameters" in lines[0]
    assert f"{PARAMETERS[name]:,}" in next(
        line for line in reversed(lines) if line.startswith("total")
    )


def test_parts_add_up_to_the_whole() -> None:
    lines = list(describe(read_arguments(["model=blip2_t5", "weights=tiny"])))
    start = next(i for i, line in enumerate(lines) if line.startswith("part"))
    numbers = [
        int(match[0].replace(",", ""))
        for line in lines[start + 1 :]
        if (match := re.search(r"(?<= )[\d,]+(?= )", line)) and not line.startswith("cache")
    ]
    assert sum(numbers[:-1]) == numbers[-1]


def test_a_longer_prompt_costs_more_to_prefill_and_not_to_see() -> None:
    short, long = (
        table("model=llava", "weights=tiny", f"prompt_len={length}") for length in (10, 20)
    )
    assert float(long["prefill"][0]) > float(short["prefill"][0])
    assert long["vision"] == short["vision"]


def test_half_precision_halves_the_bytes() -> None:
    whole, half = (
        table("model=llava", "weights=tiny", f"optimization={name}") for name in ("fp32", "bf16")
    )
    assert float(half["vision"][1]) == pytest.approx(float(whole["vision"][1]) / 2, abs=1e-3)
    assert half["vision"][0] == whole["vision"][0]


def test_full_size_is_what_is_meant_when_nothing_is_said() -> None:
    assert read_arguments(["model=fuyu"]).weights == "random"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("img_size=0", "img_size=0"),
        ("batch_size=-1", "batch_size=-1"),
        ("prompt_len=513", "prompt_len=513"),
        ("max_new_tokens=many", "max_new_tokens=many"),
        ("model=gpt", "model=gpt"),
        ("colour=red", "colour=red"),
        ("optimization=[fp16,bf16]", "fp16"),
        ("batch_size", "batch_size"),
    ],
)
def test_what_cannot_be_right_is_one_line_and_status_2(
    argument: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["cost", argument])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1


def test_the_command_itself() -> None:
    command = [sys.executable, "-m", "profiling.cost", "model=llava", "weights=tiny"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("llava, weights=tiny: ")
