"""The findings of a GPU's self-check as a page of markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from profiling.machine.machine import describe_machine
from profiling.selfcheck.budget import Course
from profiling.selfcheck.finding import Finding
from profiling.selfcheck.table import totals

COMMAND = "python -m profiling.selfcheck --gpu"


def write_page(course: Course, *, device: str, output: Path, pages: str | None) -> Path:
    """Write `selfcheck.md`; `pages` is the folder of the report beside it, if there is one."""
    path = output / "selfcheck.md"
    text = "\n".join(_lines(course, device, pages)) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _lines(course: Course, device: str, pages: str | None) -> Iterator[str]:
    machine = describe_machine()
    gpus = ", ".join(f"{gpu.name} ({gpu.uuid})" for gpu in machine.gpus) or "none listed"
    yield from ("# Self-check on a GPU", "", f"`{COMMAND}` on {device}: {totals(course.findings)}.")
    yield from ("", f"- GPUs: {gpus}", f"- driver: {machine.gpu_driver or 'unknown'}")
    yield f"- processor: {machine.cpu_model}, {machine.cpu_count} cores"
    if pages is not None:
        yield f"- the runs at full size: [report]({pages}/index.md)"
    yield ""
    yield from _table(("check", "expected", "found", "deviation", "verdict"), course.findings)
    yield from ("", "## Left out", "")
    yield from [f"- {part.name}: it {part.why}" for part in course.left_out] or ["Nothing."]
    yield from ("", "## Time", "", "| part | seconds |", "|---|---:|")
    yield from (f"| {name} | {seconds:.0f} |" for name, seconds in course.took_s.items())


def _table(titles: Sequence[str], findings: Sequence[Finding]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in findings:
        verdict = f"{row.verdict}: {row.why}" if row.why else row.verdict
        cells = (row.check, row.expected, row.found, row.deviation, verdict)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
