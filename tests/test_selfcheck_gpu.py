"""The self-check of a GPU: its plan and budget, its checks on made-up boards, its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from profiling.machine import machine
from profiling.machine.clock import Time
from profiling.machine.gpus import Gpu
from profiling.machine.machine import available_devices
from profiling.machine.nvml import Board
from profiling.points.options import list_families
from profiling.records import COMPLETED, FAILED, OUT_OF_MEMORY, UNSUPPORTED
from profiling.runs.job import Outcome
from profiling.runs.session import Session
from profiling.selfcheck import gpu_course, gpu_points
from profiling.selfcheck.__main__ import main
from profiling.selfcheck.budget import Budget, Course, CutOff, Part
from profiling.selfcheck.finding import CANNOT, OFF, OK, Finding, judge
from profiling.selfcheck.gpu_instruments import compare_joules, compare_memory
from profiling.selfcheck.isolated import run_isolated
from profiling.selfcheck.simulated import FakeNvml, World, watched
from tests.faking import CHILD, make_plan, tell
from tests.runs.fake_worker import FOLDER

NO_GPU = pytest.mark.skipif(len(available_devices()) > 1, reason="there is a GPU")


# The command


@NO_GPU
@pytest.mark.parametrize("arguments", [[], ["--device", "auto"], ["--device", "cuda"]])
def test_without_a_gpu_there_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--gpu", *arguments])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_cpu_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--gpu", "--device", "cpu"])
    assert ended.value.code == 2
    assert "--gpu needs a GPU" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.slow
def test_the_command_passes_on_a_gpu(tmp_path: Path) -> None:
    assert main(["--gpu", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "pages/index.md").is_file()


# The budget


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    @property
    def time(self) -> Time:
        return Time(now_s=lambda: self.now, sleep=self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def found(name: str) -> Finding:
    return judge(name, expected="x", found="x", right=True)


def part(clock: Clock, name: str, expects_s: float, takes_s: float | None = None) -> Part:
    def run(left_s: float) -> Iterator[Finding]:
        yield found(f"{name} begins")
        needed_s = expects_s if takes_s is None else takes_s
        clock.wait(min(needed_s, left_s))
        if needed_s > left_s:
            raise CutOff
        yield found(f"{name} ends")

    return Part(name=name, expects_s=expects_s, run=run)


def run(parts: list[Part], clock: Clock, budget_s: float) -> tuple[Course, list[str]]:
    told: list[str] = []
    budget = Budget(budget_s=budget_s, time=clock.time)
    return budget.run(parts, tell=told.append, show=lambda finding: None), told


def test_what_fits_is_run_and_timed() -> None:
    clock = Clock()
    course, told = run([part(clock, "a", 10), part(clock, "b", 20)], clock, 30)
    assert [f.check for f in course.findings] == ["a begins", "a ends", "b begins", "b ends"]
    assert course.took_s == {"a": 10, "b": 20}
    assert course.left_out == []
    assert told == ["[1/2] a: about 10 s, 30 s left", "[2/2] b: about 20 s, 20 s left"]


def test_what_does_not_fit_is_named_and_a_shorter_one_behind_it_is_run() -> None:
    clock = Clock()
    course, told = run([part(clock, "a", 10), part(clock, "b", 25), part(clock, "c", 5)], clock, 30)
    assert [(left.name, left.why) for left in course.left_out] == [
        ("b", "takes about 25 s, and 20 s were left")
    ]
    assert list(course.took_s) == ["a", "c"]
    assert "b: left out" in told[1]


def test_a_part_that_outlasts_the_budget_is_ended_and_named() -> None:
    clock = Clock()
    course, _ = run([part(clock, "a", 10, takes_s=99), part(clock, "b", 1)], clock, 30)
    assert clock.now == 30
    assert [left.name for left in course.left_out] == ["a", "b"]
    assert course.left_out[0].why == "was ended after 30 s, with the time budget"
    # What it found before is kept, and being ended is no fault.
    assert [(f.check, f.verdict) for f in course.findings] == [("a begins", OK)]


def test_a_part_that_breaks_is_off_and_the_next_one_runs() -> None:
    clock = Clock()
    broken = Part(name="a", expects_s=1, run=lambda left_s: iter([1 / 0]))  # type: ignore[list-item]
    course, _ = run([broken, part(clock, "b", 1)], clock, 30)
    assert [f.verdict for f in course.findings] == [OFF, OK, OK]


# The plan


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (Gpu(index=0, name="Made-up Board", uuid="GPU-0", memory_bytes=2**36),)
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(machine, "_visible_gpus", lambda: (gpus, "600.1"))


@pytest.mark.usefixtures("one_gpu")
def test_the_plan_has_every_family_and_variant_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[gpu_points.Plan] = []

    def note(name: str, plan: Any, session: Any, *, at_most_s: float) -> Iterator[Finding]:
        planned.append(plan)
        yield found(name)

    monkeypatch.setattr(gpu_course, "run_point", note)
    settings = gpu_course.read_settings()
    instruments, *points = gpu_course.list_parts("cuda:0", settings, tmp_path)
    assert instruments.name == "instruments"
    for point in points:
        list(point.run(1.0))
    families = list_families()
    assert [plan.point.model for plan in planned[: len(families)]] == families
    variants = [plan.point.optimization for plan in planned[len(families) :]]
    assert variants == [("static_cache",), ("flash_attn",), ("compile",)]
    for plan in planned:
        assert (plan.point.weights, plan.point.device) == ("random", "cuda:0")
        assert Path(plan.point.results_dir) == tmp_path / "records"
    # All of it is expected to fit, in under eight minutes.
    whole_s = sum(part.expects_s for part in [instruments, *points]) + settings["reserve_s"]
    assert whole_s <= settings["budget_s"] < 480


# A point


def outcome(status: str, **summary: Any) -> Outcome:
    figures = dict.fromkeys(
        ("latency_s", "gpu_memory_peak_bytes", "model_bytes", "energy_j", "energy_source")
    )
    figures |= dict.fromkeys(
        ("samples_per_s", "mfu_prefill", "mbu_decode", "noisy", "noise_reason")
    )
    error = None if status == COMPLETED else "because"
    return Outcome(status=status, error=error, loaded=True, summary=figures | summary)


RIGHT: dict[str, Any] = {
    "latency_s": 0.1,
    "gpu_memory_peak_bytes": 300,
    "model_bytes": 200,
    "energy_j": 30.0,
    "energy_source": "counter",
    "samples_per_s": 10.0,
    "mfu_prefill": 0.4,
    "mbu_decode": 0.6,
    "noisy": False,
}


def verdicts(outcome: Outcome, folder: Path = Path()) -> dict[str, str]:
    return {f.check: f.verdict for f in gpu_points.judge_point("p", outcome, folder)}


def test_a_point_that_completed_is_judged_by_its_record() -> None:
    judged = verdicts(outcome(COMPLETED, **RIGHT))
    assert set(judged.values()) == {OK}
    assert len(judged) == 5


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"gpu_memory_peak_bytes": 100}, "p: peak memory"),
        ({"gpu_memory_peak_bytes": None}, "p: peak memory"),
        ({"energy_j": 900.0}, "p: power while it runs"),
        ({"mfu_prefill": 8.45}, "p: mfu_prefill"),
        ({"mbu_decode": 1.5}, "p: mbu_decode"),
    ],
)
def test_a_record_that_cannot_be_right_is_off(wrong: dict[str, Any], check: str) -> None:
    judged = verdicts(outcome(COMPLETED, **(RIGHT | wrong)))
    assert [name for name, verdict in judged.items() if verdict == OFF] == [check]


def test_a_noisy_point_is_said_to_be_so() -> None:
    noisy = outcome(COMPLETED, **(RIGHT | {"noisy": True, "noise_reason": "others"}))
    assert verdicts(noisy)["p: noise"] == CANNOT


@pytest.mark.parametrize(
    ("status", "verdict"), [(FAILED, OFF), (UNSUPPORTED, CANNOT), (OUT_OF_MEMORY, CANNOT)]
)
def test_a_point_that_did_not_complete(status: str, verdict: str) -> None:
    assert verdicts(outcome(status)) == {"p": verdict}


def test_a_point_that_outlasts_the_budget_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiling.runs.worker._CHILD", CHILD)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    planned = make_plan(tmp_path, "num_samples=1", "share_device=true", "img_size=112")
    tell(tmp_path, s112="hang")
    session = Session(total=1)
    try:
        with pytest.raises(CutOff):
            list(gpu_points.run_point("p", planned, session, at_most_s=1.0))
    finally:
        session.abandon()
    assert session.statuses == [FAILED]


# Instruments


def simulate_joules(*, lies_by: float, **board: Any) -> Finding:
    world = World()
    nvml = FakeNvml(world=world, period_s=0.1, **board)
    true_j = nvml.nvmlDeviceGetTotalEnergyConsumption

    def counted(handle: str) -> int:
        return int(true_j(handle) * (1 + lies_by))

    nvml.nvmlDeviceGetTotalEnergyConsumption = counted  # type: ignore[method-assign]

    def work() -> None:
        world.spend(0.05, 400.0)

    return compare_joules(
        Board(nvml=nvml, uuid="GPU-0"),
        work,
        settings={"power_sample_s": 0.01, "joules_s": 8, "rise_s": 2},
        time=world.time,
        sampling=watched,
    )


def test_the_counter_agrees_with_the_power_or_is_off() -> None:
    assert simulate_joules(lies_by=0.0).verdict == OK
    assert simulate_joules(lies_by=0.3).verdict == OFF


def test_a_board_without_a_counter_or_cut_up_cannot_be_compared() -> None:
    assert simulate_joules(lies_by=0.0, has_energy=False).verdict == CANNOT
    cut = simulate_joules(lies_by=0.0, is_cut=True)
    assert (cut.verdict, "MIG" in cut.why) == (CANNOT, True)


class Allocator:
    """What torch holds, and what the board has less free: `sees` times as much."""

    def __init__(self, *, sees: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, self.sees = 0, sees
        monkeypatch.setattr(torch, "ones", self._take)

    def _take(self, size: int, *, dtype: Any, device: Any) -> object:
        self.held += size
        return object()

    def empty_cache(self) -> None: ...

    def synchronize(self, device: Any) -> None: ...

    def memory_reserved(self, device: Any) -> int:
        return self.held

    def read_used_bytes(self) -> int:
        return int(5000 + self.sees * self.held)


@pytest.mark.parametrize(("sees", "verdict"), [(1.0, OK), (1.02, OK), (0.5, OFF), (2.0, OFF)])
def test_the_allocator_agrees_with_nvml_or_is_off(
    sees: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Allocator(sees=sees, monkeypatch=monkeypatch)
    board: Any = fake
    found = compare_memory(board, fake, torch.device("cpu"), 2**20)
    assert found.verdict == verdict


# A process of its own

SENDING = "tests.sending"


def test_findings_come_out_of_the_process() -> None:
    names = [f.check for f in run_isolated(f"{SENDING}.send_two", ("a",), at_most_s=60)]
    assert names == ["a", "a again"]


@pytest.mark.slow
@pytest.mark.parametrize(("checks", "raised"), [("never_end", CutOff), ("die", RuntimeError)])
def test_a_process_that_hangs_or_dies_is_noticed(checks: str, raised: type[Exception]) -> None:
    findings = run_isolated(f"{SENDING}.{checks}", (), at_most_s=15)
    assert next(findings).check == "first"
    with pytest.raises(raised):
        next(findings)


# The page


def write(output: Path, parts: Callable[[Clock], list[Part]]) -> str:
    clock = Clock()
    course, _ = run(parts(clock), clock, 30)
    gpu_course.finish(course, device="cuda:0", output=output)
    return (output / "selfcheck.md").read_text()


def test_the_page_has_what_was_found_and_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path, lambda clock: [part(clock, "a", 10), part(clock, "b", 25)])
    assert "| a ends | x | x |  | ok |" in text
    assert "- b: it takes about 25 s, and 20 s were left" in text
    assert "| a | 10 |" in text
    out = capsys.readouterr().out
    assert "left out: b" in out
    assert out.splitlines()[-1].startswith(
        "2 ok, 0 off, 0 cannot be measured here, 1 parts left out"
    )
    kept = json.loads((tmp_path / "selfcheck.json").read_text())
    assert kept["left_out"] == [{"name": "b", "why": "takes about 25 s, and 20 s were left"}]


def test_a_page_without_anything_left_out_says_so(tmp_path: Path) -> None:
    assert "## Left out\n\nNothing.\n" in write(tmp_path, lambda clock: [part(clock, "a", 10)])


@pytest.mark.slow
def test_the_whole_course_with_embedded_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU in the GPU's place: records, a page for each family, and the list of verdicts."""
    settings = gpu_course.read_settings()
    wanted = [o for o in settings["overrides"] if not o.startswith(("weights", "max_new"))]
    settings["overrides"] = [*wanted, "weights=tiny", "max_new_tokens=4"]
    # Compiling takes minutes on a CPU, and is tested with the optimization.
    settings["variants"] = settings["variants"][:2]
    monkeypatch.setattr(gpu_course, "read_settings", lambda: settings)
    status = gpu_course.run_course("cpu", output=tmp_path, budget_s=1000)
    # There is no peak of a GPU's memory.
    assert status == 1
    for family in list_families():
        assert (tmp_path / f"pages/{family}.md").is_file()
        assert f"{family} at full size" in (tmp_path / "selfcheck.md").read_text()
    assert SimpleNamespace(**json.loads((tmp_path / "selfcheck.json").read_text())).left_out == []
    assert "[1/8] instruments" in capsys.readouterr().out
