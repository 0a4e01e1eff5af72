"""The command line of the report: what to read, what to write, and the exit status."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from profiling.report.export import to_csv, to_json
from profiling.report.runs import ReportError, Runs, read_runs

PROGRAM = "python -m profiling.report"
RESULTS, PAGES = "results", "pretty_results"
WRONG = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ReportError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; a mistake of the person who typed it is one line and status 2."""
    try:
        return _choose(arguments)(arguments)
    except ReportError as mistake:
        print(mistake, file=sys.stderr)
        return WRONG


def _choose(arguments: Sequence[str]) -> Callable[[Sequence[str]], int]:
    return write_report


def write_report(arguments: Sequence[str]) -> int:
    """The pages, or only the files that were asked for."""
    options = _report_parser().parse_args(arguments)
    found = read_all(Path(options.results_dir))
    if options.csv:
        write_text(options.csv, to_csv(found.runs))
    if options.json:
        write_text(options.json, to_json(found.runs))
    if options.html:
        from profiling.report.html import to_html

        write_text(options.html, to_html(found))
    if not (options.csv or options.json or options.html):
        _write_pages(found, options.output, arguments)
    return 0


def _write_pages(found: Runs, output: Path, arguments: Sequence[str]) -> None:
    from profiling.report.pages import write_pages

    try:
        index = write_pages(found, output, command=shlex.join([*PROGRAM.split(), *arguments]))
    except OSError as error:
        raise ReportError(f"{output}: cannot be written: {error.strerror}") from None
    print(f"{len(found.runs)} runs: {index}")


def _report_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Markdown pages of all runs, or the one file that is asked for.",
        epilog=f"Other commands: {PROGRAM} compare | gate | best, each with its own --help.",
    )
    parser.add_argument("results_dir", nargs="?", default=RESULTS)
    parser.add_argument("--output", type=Path, default=Path(PAGES), help="folder of the pages")
    parser.add_argument("--csv", type=Path, help="write only this CSV file")
    parser.add_argument("--json", type=Path, help="write only this JSON file")
    parser.add_argument("--html", type=Path, help="write only this self-contained page")
    return parser


def read_all(results_dir: Path) -> Runs:
    """Every run of a folder; what had to be left out is named on the error stream."""
    if not results_dir.is_dir():
        raise ReportError(f"{results_dir}: there is no such results folder")
    found = read_runs(results_dir)
    for problem in found.problems:
        print(" ".join(problem.split()), file=sys.stderr)
    if not found.runs:
        raise ReportError(f"{results_dir}: holds no run that can be read")
    return found


def write_text(path: Path, text: str) -> None:
    """Write one file whole, making its folder where needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from None
