"""`compare`, `gate` and `best`: sentences, exit statuses, refusals, and how runs are named."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from profiling.report.command import main
from profiling.report.say.gate import FAIL, Limit, _decide
from profiling.statistics.intervals import CONFIDENCE, Interval
from profiling.statistics.rounds import compare_unmatched
from tests.report.synthetic import MACHINE, write_comparison, write_run

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
    write_comparison(*sorted(results.glob("[!c]*"), key=size_of), ratio=0.25)
    status, out, _ = run(capsys, "compare", "img_size=224", "img_size=448")
    assert status == 0
    assert "They differ in img_size (224, 448)." in out
    assert "B takes more time than A: 4.00× [3.92, 4.08] the time, measured in pairs" in out
    assert "(5 launches, 120 pairs)" in out


def size_of(folder: Path) -> int:
    size: int = json.loads((folder / "run.json").read_text(encoding="utf-8"))["summary"]["img_size"]
    return size


def test_no_difference_has_a_sentence_too(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_comparison(*sorted(results.glob("[!c]*"), key=size_of), ratio=1.001)
    status, out, _ = run(capsys, "compare", "img_size=224", "img_size=448")
    assert status == 0
    assert "No difference in latency is shown: 0.999× [" in out


@pytest.mark.parametrize("slower", [1.0, 10.0])
def test_one_run_of_each_gives_medians_and_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slower: float
) -> None:
    before = write_run(tmp_path / "results", repeats=40)
    after = write_run(tmp_path / "results", repeats=40, slower=slower, optimization="compile")
    status, out, _ = run(capsys, "compare", str(before), str(after))
    assert status == 0
    assert "in separate runs (one of each)" in out
    assert "How much equal runs vary is unknown" in out
    assert 'python -m profiling.versus "optimization=baseline" "optimization=compile" ' in out
    assert not re.search(r"\bp [<0]|significan|takes (more|less)", out.split("Word")[0])
    assert not re.search(r"latency_s .*\[", out)


def test_a_run_is_equal_to_itself(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "compare", "img_size=448", "img_size=448")
    assert status == 0
    assert "Both are the same run." in out and "100% of the answers are equal." in out


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
    before, after = pair(tmp_path, ratio=1.0, samples=200)
    limits = ["--max-regression=latency_s=5%", "--max-regression=wer=0.2"]
    status, out, _ = run(capsys, "gate", before, after, *limits, "--max-regression=flops=0%")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["pass", "latency_s:"],
        ["pass", "wer:"],
        ["pass", "flops:"],
    ]


def pair(tmp_path: Path, *, ratio: float, reach: float | None = 1.02, **changes: Any) -> list[str]:
    """A baseline and a candidate; `ratio` is the candidate's time over the baseline's."""
    before = write_run(tmp_path / "results", **changes)
    after = write_run(tmp_path / "results", slower=ratio, optimization="compile", **changes)
    write_comparison(after, before, ratio=ratio, reach=reach, phases={"vision": ratio})
    return [str(before), str(after)]


@pytest.mark.parametrize(
    ("ratio", "limit", "status"),
    [
        (1.2, "latency_s=5%", 1),
        (1.2, "latency_s=50%", 0),
        (1.2, "vision_s=5%", 1),
        (1.2, "samples_per_s=5%", 1),
        (1.2, "samples_per_s=30%", 0),
        (1.2, "latency_s=0.000001", 1),
        (0.8, "latency_s=0%", 0),
        (0.8, "tokens_per_s=0%", 0),
        # The limit lies within the interval.
        (1.05, "latency_s=5%", 2),
        (1.0, "latency_s=0%", 2),
    ],
)
def test_gate_judges_times_by_the_paired_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, limit: str, status: int
) -> None:
    sides = pair(tmp_path, ratio=ratio)
    found, out, err = run(capsys, "gate", *sides, f"--max-regression={limit}")
    assert found == status
    assert out.startswith({0: "pass", 1: "FAIL", 2: ""}[status])
    assert err.count("\n") == (status == 2)


def test_gate_turns_a_comparison_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = pair(tmp_path, ratio=1.2)
    assert run(capsys, "gate", before, after, "--max-regression=latency_s=5%")[0] == 1
    assert run(capsys, "gate", after, before, "--max-regression=latency_s=5%")[0] == 0


@pytest.mark.parametrize("repeats", [5, 40])
@pytest.mark.parametrize("slower", [1.0, 10.0])
def test_gate_never_passes_by_lack_of_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repeats: int, slower: float
) -> None:
    before = write_run(tmp_path / "results", repeats=repeats)
    after = write_run(tmp_path / "results", repeats=repeats, slower=slower, img_size=112)
    status, out, err = run(capsys, "gate", str(before), str(after), "--max-regression=latency_s=5%")
    assert (status, out) == (2, "")
    assert 'python -m profiling.versus "img_size=224" "img_size=112" ' in err
    assert err.count("\n") == 1


def test_gate_needs_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = pair(tmp_path, ratio=10.0, reach=None)
    status, out, err = run(capsys, "gate", *sides, "--max-regression=latency_s=5%")
    assert (status, out) == (2, "") and "--launches" in err
    status, out, err = run(capsys, "gate", *sides, "--max-regression=peak_memory_bytes=5%")
    assert (status, out) == (2, "") and "no interval" in err


def test_gate_says_what_to_type_where_no_setting_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *gate_pair(tmp_path, "latency_s=5%"))
    assert status == 2 and "python main.py -m model=fuyu" in err and "round=1,2,3" in err


@pytest.mark.parametrize("column", ["ttft_s", "peak_memory_bytes", "load_s", "prefill_s"])
def test_gate_types_rounds_for_what_pairs_do_not_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    sides = pair(tmp_path, ratio=1.0)
    status, out, err = run(capsys, "gate", *sides, f"--max-regression={column}=5%")
    assert (status, out) == (2, "") and "profiling.versus" not in err
    assert "python main.py -m optimization=baseline,compile model=llava" in err
    assert err.rstrip().endswith("round=1,2,3")


def test_gate_asks_for_more_launches_than_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = pair(tmp_path, ratio=1.05)
    status, _, err = run(capsys, "gate", *sides, "--max-regression=latency_s=5%")
    assert status == 2 and err.rstrip().endswith("--launches 20")
    before = write_rounds(tmp_path, slower=[1.0, 1.2, 0.8], seed=1, model="fuyu")
    after = write_rounds(tmp_path, slower=[1.1, 0.9, 1.0], seed=2, model="fuyu", prompt_len=14)
    status, _, err = run(capsys, "gate", before, after, "--max-regression=latency_s=5%")
    assert status == 2 and "more rounds: " in err and "12" in err.rpartition("round=")[2]


@pytest.mark.parametrize("other", [{"samples": 20}, {"dataset": "coco"}])
@pytest.mark.parametrize("column", ["wer", "accuracy"])
def test_gate_judges_no_answers_to_different_samples(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    other: dict[str, Any],
    column: str,
) -> None:
    bounds = {"accuracy": 0.8, "accuracy_ci_low": 0.7, "accuracy_ci_high": 0.9}
    right = [f"sign number {number}" for number in range(40)]
    wrong = right[:20] + ["no"] * 20
    given: dict[str, Any] = {"samples": 40, **other}
    before = write_run(tmp_path / "results", answers=right, summary=bounds, **given)
    after = write_run(tmp_path / "results", answers=wrong, summary=bounds, samples=40, img_size=112)
    sides = (str(before), str(after))
    status, out, err = run(capsys, "gate", *sides, f"--max-regression={column}=0.01")
    assert (status, out) == (2, "") and "answered different samples" in err
    _, out, _ = run(capsys, "compare", *sides)
    (row,) = [line for line in out.splitlines() if line.startswith("wer ")]
    assert "samples" not in row and "[" not in row
    assert ("Word error rate is the same for each of 20" in out) is (other == {"samples": 20})


def test_the_interval_of_a_score_holds_its_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corpus' rate weights samples, so that its change is not their mean."""
    right = [f"sign number {number}" for number in range(40)]
    before = write_run(tmp_path / "results", answers=right, samples=40, summary={"wer": 0.0})
    some = ["no"] * 10 + right[10:]
    after = write_run(
        tmp_path / "results", answers=some, samples=40, img_size=112, summary={"wer": 0.3}
    )
    _, out, _ = run(capsys, "compare", str(before), str(after))
    (row,) = [line for line in out.splitlines() if line.startswith("wer ")]
    low, high = map(float, row.partition("[")[2].partition("]")[0].split(", "))
    assert low < 0.3 < high


def write_rounds(tmp_path: Path, *, slower: list[float], seed: int, **settings: Any) -> str:
    """Repetitions of one point: a run's own times hardly vary, but runs do."""
    for number, factor in enumerate(slower):
        folder = write_run(tmp_path / "rounds" / str(number), slower=1.0, **settings)
        factors = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for column in ("latency_s", "vision_s", "peak_memory_bytes"):
            factors["summary"][column] *= factor
        target = tmp_path / "results" / (folder.name + (f"-{number + 1}" if number else ""))
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        (target / "run.json").write_text(json.dumps(factors), encoding="utf-8")
        (tmp_path / "rounds" / str(number)).rmdir()
    return folder.name


@pytest.mark.parametrize(
    ("factors", "limit", "status"),
    [
        ((10.0, 10.1, 9.9), "latency_s=5%", 1),
        ((1.001, 0.999, 1.0), "latency_s=5%", 0),
        ((1.001, 0.999, 1.0), "vision_s=5%", 0),
        ((1.3, 0.9, 1.1), "latency_s=5%", 2),
        ((1.3, 1.301, 1.302), "peak_memory_bytes=5%", 1),
    ],
)
@pytest.mark.parametrize("by_values", [True, False])
def test_gate_judges_by_one_number_for_each_round(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factors: tuple[float, ...],
    limit: str,
    status: int,
    by_values: bool,
) -> None:
    before = write_rounds(tmp_path, slower=[1.0, 1.002, 0.998], seed=1)
    after = write_rounds(tmp_path, slower=list(factors), seed=2, optimization="compile")
    if by_values:
        before, after = "optimization=baseline", "optimization=compile"
    assert run(capsys, "gate", before, after, f"--max-regression={limit}")[0] == status


def test_rounds_count_where_pairs_have_too_few_launches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_rounds(tmp_path, slower=[1.0, 1.002, 0.998], seed=1)
    after = write_rounds(tmp_path, slower=[2.0, 2.01, 1.99], seed=2, optimization="compile")
    sides = [tmp_path / "results" / name.partition("-")[0] for name in (before, after)]
    write_comparison(*sides, ratio=1.0, reach=None, launches=2)
    assert run(capsys, "gate", before, after, "--max-regression=latency_s=5%")[0] == 1
    assert "3 separate rounds" in run(capsys, "compare", before, after)[1]


def test_rounds_have_a_sentence_with_their_degrees_of_freedom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_rounds(tmp_path, slower=[1.0, 1.01, 0.99], seed=1)
    after = write_rounds(tmp_path, slower=[1.5, 1.51, 1.49], seed=2, optimization="compile")
    _, out, _ = run(capsys, "compare", before, after)
    assert "B takes more time than A" in out
    assert "3 separate rounds, Welch's t with 3" in out and "degrees of freedom" in out
    _, out, _ = run(capsys, "compare", f"{before}-2", after)
    assert "1 of A, 3 of B; rounds need 3 of each" in out and "B takes more" not in out


def test_gate_rarely_fails_equal_rounds_and_finds_slow_ones() -> None:
    """The simulated runs vary by 3% from run to run, whatever their own repeats say."""
    draw, wrong, found = random.Random(1), 0, 0
    for _ in range(200):
        sides = [[math.exp(draw.gauss(0, 0.03)) for _ in range(4)] for _ in range(2)]
        wrong += judge_rounds(sides[0], sides[1], allowed=0.0) == FAIL
        found += judge_rounds(sides[0], [1.25 * one for one in sides[1]], allowed=0.05) == FAIL
    assert wrong / 200 <= 0.05
    assert found / 200 >= 0.9


def judge_rounds(before: list[float], after: list[float], *, allowed: float) -> str:
    """The gate's decision, without the files."""
    interval = compare_unmatched(before, after).interval
    assert interval is not None
    bounds = Interval(low=interval.low - 1, high=interval.high - 1, confidence=CONFIDENCE)
    return _decide(Limit(column="latency_s", allowed=allowed, is_share=True), bounds)


@pytest.mark.parametrize(
    ("limit", "change", "status"),
    [
        ("wer=0.01", {"wer": 0.9}, 1),
        ("wer=2", {"wer": 0.9}, 0),
        ("flops=0%", {"flops": 1.0}, 0),
        ("flops=0%", {"flops": 1e20}, 1),
        ("cer=0.01", {"cer": 0.9}, 2),
        ("accuracy=0.01", {"accuracy": 0.1, "accuracy_ci_low": 0.05, "accuracy_ci_high": 0.2}, 1),
        ("accuracy=0.9", {"accuracy": 0.1, "accuracy_ci_low": 0.05, "accuracy_ci_high": 0.2}, 0),
        ("accuracy=0.5", {"accuracy": 0.4, "accuracy_ci_low": 0.2, "accuracy_ci_high": 0.7}, 2),
    ],
)
def test_gate_knows_what_is_worse(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limit: str,
    change: dict[str, float],
    status: int,
) -> None:
    plain = {"cer": 0.1, "accuracy": 0.8, "accuracy_ci_low": 0.7, "accuracy_ci_high": 0.9}
    before = write_run(tmp_path / "results", model="fuyu", samples=100, summary=plain)
    after = write_run(
        tmp_path / "results",
        model="fuyu",
        suffix="-2",
        seed=1,
        samples=100,
        summary={**plain, **change},
    )
    arguments = ("gate", str(before), str(after), f"--max-regression={limit}")
    assert run(capsys, *arguments)[0] == status


@pytest.mark.parametrize(
    ("wrong", "samples", "limit", "status"),
    [
        (0, 8, "wer=0.01", 0),
        (0, 5, "wer=0.01", 2),
        (8, 8, "wer=0.01", 1),
        (2, 8, "wer=0.01", 2),
        (0, 8, "cer=0.01", 0),
    ],
)
def test_gate_judges_few_samples_by_their_signs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: int,
    samples: int,
    limit: str,
    status: int,
) -> None:
    right = [f"sign number {number}" for number in range(samples)]
    answers = ["no" if number < wrong else text for number, text in enumerate(right)]
    common: dict[str, Any] = {"samples": samples, "summary": {"cer": 0.1}}
    before = write_run(tmp_path / "results", answers=right, **common)
    after = write_run(tmp_path / "results", answers=answers, optimization="compile", **common)
    arguments = ("gate", str(before), str(after), f"--max-regression={limit}")
    assert run(capsys, *arguments)[0] == status


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
    arguments = gate_pair(tmp_path, "flops=50%", **changes)
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


def test_gate_refuses_a_noisy_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_run(tmp_path / "results")
    after = write_run(tmp_path / "results", img_size=112)
    write_comparison(before, after, ratio=1.0, noisy=True)
    arguments = ("gate", str(before), str(after), "--max-regression=latency_s=5%")
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "") and "--allow-noisy" in err
    assert run(capsys, *arguments, "--allow-noisy")[0] == 0


def test_gate_fails_what_it_can_judge_beside_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = gate_pair(tmp_path, "flops=0%", "latency_s=5%", summary={"flops": 1e20})
    status, out, _ = run(capsys, *arguments)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()] == ["FAIL", "none"]


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
    sides = ("model=fuyu,optimization=baseline", "model=fuyu,optimization=bf16")
    status, out, _ = run(capsys, "compare", *sides)
    assert status == 0
    assert "by 3 matched rounds, Student's t with 2.00 degrees of freedom" in out
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
    assert "Nats per token of the reference changes by +0.100 in the mean of 2 samples" in said
    assert "0 better and 2 worse; 2 samples are too few for an interval" in said


@pytest.mark.parametrize(("limit", "status"), [("speedup=5%", 1), ("speedup=30%", 0)])
def test_a_speed_up_is_judged_by_the_pairs_that_measured_it(
    limit: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_run(tmp_path)
    other = write_run(tmp_path, optimization="bf16")
    limits = (str(base), str(other), "--max-regression", limit)
    assert run(capsys, "gate", *limits)[0] == 2
    write_comparison(base, other, ratio=0.8)
    found, out, _ = run(capsys, "gate", *limits)
    assert found == status
    assert "speedup: 1.00 -> 0.800, -20.0% [-21.6%, -18.4%] paired" in out


def test_a_run_is_not_judged_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write_run(tmp_path))
    status, out, err = run(capsys, "gate", folder, folder, "--max-regression", "latency_s=5%")
    assert (status, out) == (2, "")
    assert "a run cannot be judged by itself; type python main.py -m " in err


def test_runs_of_several_machines_are_told_apart_by_where_they_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cpu in ("One CPU", "Two CPU"):
        write_run(tmp_path, machine={**MACHINE, "cpu_model": cpu})
    status, _, err = run(
        capsys,
        "compare",
        "optimization=baseline",
        "optimization=baseline",
        "--results",
        str(tmp_path),
    )
    assert status == 2
    assert "2 runs match; narrow it down by the fingerprint: " in err
    for cpu in ("One CPU", "Two CPU"):
        assert f"(2026-01-02T03:04:05+00:00 on {cpu}, Synthetic OS 1)" in err
