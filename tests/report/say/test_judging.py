"""`compare`, `gate` and `best`: sentences, exit statuses, refusals, and how runs are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiling.report.command import main
from tests.report.synthetic import MACHINE, write_run

OTHER_MACHINE = {**MACHINE, "cpu_model": "Another CPU"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write_run(folder)
    write_run(folder, img_size=448)
    return folder


def gate_pair(tmp_path: Path, *limits: str, **changes: Any) -> list[str]:
    before = write_run(tmp_path / "results", model="fuyu")
    after = write_run(tmp_path / "results", model="fuyu", suffix="-2", seed=1, **changes)
    typed = [f"--max-regression={limit}" for limit in limits]
    return ["gate", str(before), str(after), *typed]


def test_a_difference_has_a_sentence(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "compare", "img_size=224", "img_size=448")
    assert status == 0
    assert "They differ in img_size (224, 448)." in out
    assert "B takes more time than A" in out
    assert "the smallest difference that these pairs can detect is" in out
    assert "Word error rate does not differ" in out or "Word error rate differs" in out


def test_no_difference_has_a_sentence_too(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = write_run(results, img_size=448, suffix="-2", seed=9)
    status, out, _ = run(capsys, "compare", str(again), str(again))
    assert status == 0
    assert "No significant difference in latency" in out
    assert "100% of the answers are equal." in out


def test_cautions_are_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(results, model="fuyu", machine=OTHER_MACHINE, noisy=True)
    status, out, _ = run(capsys, "compare", "model=llava,img_size=224", "model=fuyu")
    assert status == 0
    assert "different machines" in out
    assert "B is noisy: load average 3.1 on 2 cores" in out


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("model=llava", "2 runs match; narrow it down by img_size=224, 448"),
        ("model=lava", "model is one of llava"),
        ("modle=llava", "modle: there is no such column; similar: model"),
        ("img_size=224,", "'' is not of the form key=value"),
        ("zzz", "no fingerprint begins so"),
        ("", "2 runs match"),
    ],
)
def test_a_selector_that_names_no_one_run(
    results: Path, capsys: pytest.CaptureFixture[str], selector: str, said: str
) -> None:
    status, out, err = run(capsys, "compare", selector, "img_size=448")
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_the_newest_repetition_is_meant(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(results, suffix="-2", started_at="2026-05-01T00:00:00+00:00")
    status, out, _ = run(capsys, "compare", "img_size=224", "img_size=448")
    assert status == 0
    assert out.splitlines()[0].split()[1].rstrip("‡").endswith("-2")


def test_gate_passes_what_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = gate_pair(tmp_path, "latency_s=5%", "wer=0.5", "peak_memory_bytes=0%")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["pass", "latency_s:"],
        ["pass", "wer:"],
        ["pass", "peak_memory_bytes:"],
    ]


def test_gate_fails_what_is_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_run(tmp_path / "results")
    after = write_run(tmp_path / "results", slower=1.2, seed=1)
    limits = ["--max-regression", "latency_s=5%", "--max-regression", "samples_per_s=50%"]
    status, out, _ = run(capsys, "gate", str(before), str(after), *limits)
    assert status == 1
    assert out.startswith("FAIL  latency_s:")
    assert "allowed 5%" in out
    assert "\npass  samples_per_s:" in out
    assert run(capsys, "gate", str(after), str(before), *limits)[0] == 0


@pytest.mark.parametrize(
    ("limit", "change", "status"),
    [
        ("wer=0.01", {"wer": 0.9}, 1),
        ("wer=2", {"wer": 0.9}, 0),
        ("samples_per_s=10%", {"samples_per_s": 1.0}, 1),
        ("samples_per_s=10%", {"samples_per_s": 1e6}, 0),
        ("flops=0%", {"flops": 1.0}, 0),
        ("flops=0%", {"flops": 1e20}, 1),
    ],
)
def test_gate_knows_what_is_worse(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limit: str,
    change: dict[str, float],
    status: int,
) -> None:
    assert run(capsys, *gate_pair(tmp_path, limit, summary=change))[0] == status


@pytest.mark.parametrize(
    ("changes", "lifted_by"),
    [
        ({"machine": OTHER_MACHINE}, "--allow-other-machine"),
        ({"noisy": True}, "--allow-noisy"),
    ],
)
def test_gate_refuses_unless_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], lifted_by: str
) -> None:
    arguments = gate_pair(tmp_path, "latency_s=50%", **changes)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert lifted_by in err and err.count("\n") == 1
    assert run(capsys, *arguments, lifted_by)[0] == 0


@pytest.mark.parametrize(
    "limit",
    [
        *("latency_s", "latency_s=", "latency_s=x%", "latency_s=-5%", "latency_s=nan"),
        *("model=1", "x=1", "noisy=1", "num_new_tokens=5%", "img_size=1"),
    ],
)
def test_gate_refuses_a_limit_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    status, out, err = run(capsys, *gate_pair(tmp_path, limit))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_gate_refuses_a_value_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *gate_pair(tmp_path, "energy_j=5%"))
    assert status == 2
    assert "no counter, here" in err


def test_gate_refuses_a_run_that_did_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *gate_pair(tmp_path, "latency_s=5%", status="failed"))
    assert status == 2
    assert "is failed" in err


def test_gate_lets_chance_pass_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_run(tmp_path / "results", noise=0.2, repeats=6)
    after = write_run(tmp_path / "results", noise=0.2, repeats=6, seed=4, slower=1.02, suffix="-2")
    one = run(capsys, "gate", str(before), str(after), "--max-regression=latency_s=0%")
    other = run(capsys, "gate", str(after), str(before), "--max-regression=latency_s=0%")
    assert one[0] == other[0] == 0
    assert "but not significant" in one[1] + other[1]


def test_rounds_are_paired_with_their_own_round(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        for optimization in ("baseline", "bf16"):
            # The machine is slower in every round, for both alike.
            write_run(
                results,
                model="fuyu",
                optimization=optimization,
                round=number,
                slower=float(number),
                seed=number,
            )
    pair = ("model=fuyu,optimization=baseline", "model=fuyu,optimization=bf16")
    status, out, _ = run(capsys, "compare", *pair)
    assert status == 0
    assert "30 pairs in 3 rounds" in out
    assert "B takes less time than A" in out
    change = next(line.split()[5] for line in out.splitlines() if line.startswith("latency_s"))
    assert -30 < float(change.rstrip("%")) < -15


def test_best_is_the_least_that_meets_the_conditions(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(results, model="fuyu", summary={"latency_s": 0.001, "wer": 0.9})
    write_run(results, model="qwen25vl", summary={"latency_s": 0.002, "wer": 0.1})
    write_run(results, model="blip2_t5", status="failed", error="boom")
    command = ("best", "--minimize", "latency_s")
    assert "fuyu" in run(capsys, *command)[1].splitlines()[0]
    status, out, _ = run(capsys, *command, "--subject-to", "wer<0.2")
    assert status == 0
    assert "qwen25vl" in out.splitlines()[0]
    assert "of 4 completed runs fit" in out
    narrowed = run(capsys, *command, "--subject-to=wer>0.5", "--subject-to=model==qwen25vl")
    assert narrowed[:2] == (1, "no run meets all conditions\n")
    most = run(capsys, "best", "--maximize", "latency_s", "--subject-to", "wer >= 0")
    assert "448 px" in most[1].splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--minimize", "speed"),
        ("--minimize", "model"),
        ("--minimize", "latency_s", "--subject-to", "wer"),
        ("--minimize", "latency_s", "--subject-to", "wer<low"),
        ("--minimize", "latency_s", "--subject-to", "wer<nan"),
        ("--minimize", "latency_s", "--maximize", "wer"),
        (),
    ],
)
def test_best_refuses_what_it_cannot_understand(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    status, out, err = run(capsys, "best", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_a_run_without_a_value_is_never_best(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "best", "--minimize", "energy_j")
    assert (status, out) == (1, "no run meets all conditions\n")


def give_likelihoods(run: Path, values: list[float]) -> None:
    path = run / "answers.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    taught = zip(lines, values, strict=False)
    text = "".join(json.dumps(line | {"reference_nll": nll}) + "\n" for line, nll in taught)
    path.write_text(text, encoding="utf-8")


def test_likelihoods_of_references_are_paired_by_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_run(tmp_path / "r", model="llava")
    other = write_run(tmp_path / "r", model="llava", optimization="int4")
    give_likelihoods(plain, [1.0, 3.0])
    give_likelihoods(other, [1.1, 3.1])
    status, said, _ = run(capsys, "compare", str(plain), str(other))
    assert status == 0
    assert "Nats per token of the reference does not differ significantly: +0.100" in said
    assert "[+0.100, +0.100] in the mean of 2 samples, 0 better and 2 worse" in said
