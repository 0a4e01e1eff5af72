"""`python -m profiling.selfcheck --gpu`: what only a GPU can show, in a few minutes.

The instruments are checked first, in a process of their own, then points at full size, each in a
worker. This process imports no framework: its context on the GPU would count as another program's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.machine.clock import Time
from profiling.machine.machine import describe_machine, resolve_device
from profiling.points.options import list_families
from profiling.report.command import main as write_report
from profiling.runs.session import Session
from profiling.selfcheck.budget import Budget, Course, Part
from profiling.selfcheck.finding import OFF, Finding
from profiling.selfcheck.gpu_page import write_page
from profiling.selfcheck.gpu_points import plan, run_point
from profiling.selfcheck.isolated import run_isolated
from profiling.selfcheck.table import heading, lines, totals

SETTINGS = PROJECT / "conf" / "selfcheck" / "gpu.yaml"
RECORDS, PAGES = "records", "pages"


class NoGpuHere(Exception):
    """There is no GPU to check; the message is a line that says why."""


def find_gpu(asked: str) -> str:
    """The GPU to check; raises where there is none, since all of this would say nothing."""
    if asked == "cpu":
        raise ConfigError("--device", asked, "--gpu needs a GPU")
    device = resolve_device(asked)
    if device != "cpu":
        return device
    try:
        # The error of a device that is not there says why.
        return resolve_device("cuda")
    except ConfigError as reason:
        raise NoGpuHere(f"--gpu needs a GPU, and there is none here: {reason}") from None


def read_settings() -> dict[str, Any]:
    settings = OmegaConf.to_container(OmegaConf.load(SETTINGS))
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def run_course(device: str, *, output: Path, budget_s: float | None) -> int:
    """Run what fits into the budget; returns the exit status."""
    settings = read_settings()
    whole_s = settings["budget_s"] if budget_s is None else budget_s
    parts = list_parts(device, settings, output)
    print(_introduce(device, parts, whole_s, output), *heading(), sep="\n", flush=True)
    budget = Budget(budget_s=whole_s - settings["reserve_s"], time=Time())
    course = budget.run(parts, tell=partial(print, flush=True), show=_show)
    finish(course, device=device, output=output)
    return int(any(finding.verdict == OFF for finding in course.findings))


def _introduce(device: str, parts: Sequence[Part], budget_s: float, output: Path) -> str:
    names = {gpu.index: gpu.name for gpu in describe_machine().gpus}
    name = names.get(int(device.partition(":")[2] or 0), device)
    return f"{name} as {device}: {len(parts)} parts in at most {budget_s:.0f} s, into {output}\n"


def _show(finding: Finding) -> None:
    print(*lines(finding), sep="\n", flush=True)


# Parts


def list_parts(device: str, settings: Mapping[str, Any], output: Path) -> list[Part]:
    """Instruments, each family at full size, and the variants that only a GPU has."""
    common = [
        *settings["overrides"],
        f"device={device}",
        f"results_dir={(output / RECORDS).absolute()}",
    ]
    points = {f"{name} at full size": [f"model={name}"] for name in list_families()}
    expects_s = dict.fromkeys(points, settings["families"]["expects_s"])
    for variant in settings["variants"]:
        points[variant["name"]] = variant["overrides"]
        expects_s[variant["name"]] = variant["expects_s"]
    return [
        _instruments(device, settings["instruments"], common),
        *(
            Part(
                name=name,
                expects_s=expects_s[name],
                run=partial(_run_alone, name, [*common, *overrides]),
            )
            for name, overrides in points.items()
        ),
    ]


def _instruments(device: str, settings: Mapping[str, Any], common: Sequence[str]) -> Part:
    def run(left_s: float) -> Iterator[Finding]:
        # By its name: only the process of the checks imports the framework that they need.
        profiler = plan(common).point.profiler
        yield from run_isolated(
            "profiling.selfcheck.gpu_instruments.check_all",
            (device, dict(settings), dict(profiler)),
            at_most_s=left_s,
        )

    return Part(name="instruments", expects_s=settings["expects_s"], run=run)


def _run_alone(name: str, overrides: Sequence[str], left_s: float) -> Iterable[Finding]:
    session = Session(total=1)
    try:
        yield from run_point(name, plan(overrides), session, at_most_s=left_s)
    finally:
        session.abandon()


# The end


def finish(course: Course, *, device: str, output: Path) -> None:
    """Write what was found, and the report of the records; print the totals."""
    output.mkdir(parents=True, exist_ok=True)
    found = {"device": device, **asdict(course)}
    (output / "selfcheck.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    has_pages = _report(output)
    page = write_page(course, device=device, output=output, pages=PAGES if has_pages else None)
    for part in course.left_out:
        print(f"left out: {part.name}: it {part.why}")
    left = f", {len(course.left_out)} parts left out" if course.left_out else ""
    print(f"\n{totals(course.findings)}{left}: {page}")


def _report(output: Path) -> bool:
    """Pages of the records, where there are any."""
    records = output / RECORDS
    if not any(records.glob("*/run.json")):
        return False
    return write_report([str(records), "--output", str(output / PAGES)]) == 0
