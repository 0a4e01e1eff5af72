"""What `explain` says of a run: least times, limits, published figures, and what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiling.report.command import main
from profiling.report.read.runs import read_runs
from profiling.report.say.explanation import explain_run, read_published_latencies
from tests.report.synthetic import write_run

PEAKS = {"peak_flops_per_s": 1e12, "peak_bytes_per_s": 1e11}
# Least time: 10 ms of arithmetic in the prefill, 20 ms of reading in the decoding.
COSTS = {
    "flops_prefill": 1e10,
    "moved_prefill_bytes": 1e6,
    "flops_decode": 1e8,
    "moved_decode_bytes": 2e9,
}


def explain(folder: Path) -> list[str]:
    runs = read_runs(folder.parent).runs
    (run,) = (one for one in runs if one.name == folder.name)
    return explain_run(run, runs)


def lines_of(phase: str, lines: list[str]) -> list[str]:
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{phase}: "))
    end = next((i for i in range(start + 1, len(lines)) if lines[i][:2] != "  "), len(lines))
    return lines[start:end]


def make(results: Path, **summary: Any) -> Path:
    given = {**PEAKS, **COSTS, "prefill_s": 0.015, "decode_s": 0.2, **summary}
    return write_run(results, summary=given, slower=summary.get("prefill_s", 1.0))


@pytest.mark.parametrize(
    ("prefill_s", "verdict", "advice"),
    [
        (0.015, "(1.50×); limited by compute: at its limit", "token_pruning"),
        (0.030, "(3.00×); limited by compute: within what is usual", "token_pruning"),
        (0.080, "(8.00×); limited by compute: far from its limit", "trace=true"),
        (
            0.005,
            "(0.500×); limited by compute: faster than the measured peak, which",
            "token_pruning",
        ),
    ],
)
def test_a_phase_is_compared_with_its_least_time(
    prefill_s: float, verdict: str, advice: str, tmp_path: Path
) -> None:
    said = lines_of("prefill", explain(make(tmp_path, prefill_s=prefill_s)))
    assert "at least 10.0 ms" in said[0]
    assert verdict in said[0]
    assert advice in said[-1]


def test_a_phase_that_reads_is_limited_by_memory(tmp_path: Path) -> None:
    said = lines_of("decode", explain(make(tmp_path, decode_s=0.04)))
    assert "at least 20.0 ms" in said[0]
    assert "limited by memory" in said[0]
    assert "quantized weights" in said[-1]


def test_what_is_read_faster_than_memory_comes_from_a_cache(tmp_path: Path) -> None:
    said = lines_of("decode", explain(make(tmp_path, decode_s=0.01)))
    assert "limited by memory: faster than the measured peak: data stay" in said[0]


def test_drafted_tokens_share_a_step(tmp_path: Path) -> None:
    said = lines_of("decode", explain(make(tmp_path, decode_s=0.01, tokens_per_step=2.5)))
    assert "faster than token by token, since drafts were accepted" in said[0]
    assert said[1].endswith("here a step gave 2.50 tokens")


def test_other_runs_of_the_family_stand_beside(tmp_path: Path) -> None:
    mine = make(tmp_path, prefill_s=0.02)
    make(tmp_path, prefill_s=0.03)
    make(tmp_path, prefill_s=0.05)
    write_run(tmp_path, model="fuyu", summary={**PEAKS, **COSTS, "prefill_s": 9.0})
    said = lines_of("prefill", explain(mine))
    assert said[1].endswith("3.00× to 5.00× their least times (2 runs)")


def test_without_a_least_time_the_reason_is_said(tmp_path: Path) -> None:
    said = lines_of("prefill", explain(write_run(tmp_path, summary={"peak_flops_per_s": None})))
    assert "its least time is not known: the run has no roofline readings" in said[0]


def test_a_noticeable_rest_is_noticed(tmp_path: Path) -> None:
    folder = make(tmp_path, preprocess_s=0.5, latency_s=1.0, transfer_s=0.01)
    said = explain(folder)
    assert len(lines_of("preprocess", said)) == 2
    assert len(lines_of("transfer", said)) == 1


def test_published_figures_are_of_full_sizes(tmp_path: Path) -> None:
    tiny, full = (
        explain(write_run(tmp_path, weights=weights)) for weights in ("tiny", "pretrained")
    )
    assert tiny[-1].startswith("published: none, since this is a miniature")
    assert full[-1] == (
        "published: 13B on A100, first token (first token): 203 ms, 3.83× its least time"
    )


def test_every_published_latency_is_above_its_least_time() -> None:
    assert all(one.seconds > one.least_s for one in read_published_latencies())


def test_a_run_that_did_not_complete_has_no_times(tmp_path: Path) -> None:
    folder = write_run(tmp_path, status="failed", error="boom")
    assert explain(folder)[-1] == "failed: boom. There are no times to explain."


def test_a_busy_machine_is_named(tmp_path: Path) -> None:
    said = explain(write_run(tmp_path, noisy=True))
    assert said[1].startswith("Caution: the machine was busy (load average 3.1")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path)
    assert main(["explain", str(folder)]) == 0
    assert "prefill: 15.0 ms, at least 10.0 ms" in capsys.readouterr().out
    assert main(["explain", folder.name[:8], "--results", str(tmp_path)]) == 0
    assert main(["explain", "nothing", "--results", str(tmp_path)]) == 2
    assert main(["explain"]) == 2
