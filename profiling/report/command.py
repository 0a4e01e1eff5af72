"""The command line of the report: what to read, what to write, and the exit status."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from profiling.errors import one_line, shorten
from profiling.files import describe
from profiling.report.read.runs import (
    ReportError,
    Run,
    Runs,
    read_runs,
)
from profiling.report.say.units import count
from profiling.report.write.csv_json import to_csv, to_json

PROGRAM = "python -m profiling.report"
RESULTS, PAGES = "results", "pretty_results"
WRONG = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ReportError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; a user's mistake is one line and status 2."""
    try:
        return _choose(arguments)(arguments)
    except ReportError as mistake:
        print(one_line(str(mistake)), file=sys.stderr)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the output; what is buffered cannot be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{shorten(error.filename)}: " if error.filename else ""
        print(one_line(f"{name}{describe(error)}"), file=sys.stderr)
    return WRONG


def _choose(arguments: Sequence[str]) -> Callable[[Sequence[str]], int]:
    commands = {"compare": run_compare, "gate": run_gate, "best": run_best}
    commands["explain"] = run_explain
    return commands.get(arguments[0] if arguments else "", write_report)


def write_report(arguments: Sequence[str]) -> int:
    """Write the pages, or only the requested files."""
    options = _report_parser().parse_args(arguments)
    found = read_all(Path(options.results_dir), pictures=options.pictures)
    if not _write_files(found, options, arguments):
        _write_pages(found, options.output, arguments)
    return 0


def _write_files(found: Runs, options: argparse.Namespace, arguments: Sequence[str]) -> bool:
    """Write the requested files; gives whether there were any."""
    if options.csv:
        write_text(options.csv, to_csv(found.runs))
    if options.json:
        write_text(options.json, to_json(found.runs))
    if options.html:
        from profiling.report.write.html import to_html

        page = to_html(found, results=options.results_dir)
        write_text(options.html, page)
    if options.latex:
        from profiling.report.write.latex import to_latex

        write_text(options.latex, to_latex(found, command=_written(arguments)))
    if options.parquet:
        from profiling.report.write.columnar import write_parquet

        write_parquet(found.runs, options.parquet)
    if options.dataset:
        from profiling.report.write.columnar import write_dataset

        write_dataset(found.runs, options.dataset, command=_written(arguments))
    names = ("csv", "json", "html", "latex", "parquet", "dataset")
    return any(getattr(options, name) for name in names)


def _written(arguments: Sequence[str]) -> str:
    return shlex.join([*PROGRAM.split(), *arguments])


def _write_pages(found: Runs, output: Path, arguments: Sequence[str]) -> None:
    from profiling.report.write.pages import write_pages

    try:
        index = write_pages(found, output, command=_written(arguments))
    except OSError as error:
        raise ReportError(f"{shorten(output)}: cannot be written: {describe(error)}") from None
    print(f"{count(len(found.runs), 'run')}: {index}")


def _report_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Markdown pages of all runs, or only the requested file.",
        epilog=f"Other commands: {PROGRAM} compare | gate | best | explain, each with --help.",
    )
    parser.add_argument("results_dir", nargs="?", default=RESULTS)
    parser.add_argument("--output", type=Path, default=Path(PAGES), help="folder of the pages")
    parser.add_argument("--csv", type=Path, help="write only this CSV file")
    parser.add_argument("--json", type=Path, help="write only this JSON file")
    parser.add_argument("--html", type=Path, help="write only this self-contained page")
    parser.add_argument(
        "--latex", type=Path, help="write only this file of LaTeX tables (package booktabs)"
    )
    parser.add_argument("--parquet", type=Path, help="write only this Parquet file")
    parser.add_argument("--dataset", type=Path, help="write only this Hugging Face dataset folder")
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="show pictures of the sample folders that records name, not only of the project's own",
    )
    return parser


def run_compare(arguments: Sequence[str]) -> int:
    """Compare two runs; the status is 0 for any result."""
    from profiling.report.read.selection import select_sides
    from profiling.report.say.two_runs import write_comparison

    parser = _pair_parser("compare", "A", "B", "Compare two runs.")
    options = parser.parse_args(arguments[1:])
    runs = _read_for_selection(options.results)
    print("\n".join(write_comparison(*select_sides(options.a, options.b, runs))))
    return 0


def run_gate(arguments: Sequence[str]) -> int:
    """Judge a run; status 0: every metric passes, 1: one fails, 2: the runs cannot be judged."""
    from profiling.report.read.selection import select_sides
    from profiling.report.say.gate import FAIL, judge_all, parse_limit
    from profiling.report.say.two_runs import check_comparable

    parser = _pair_parser("gate", "BASELINE", "CANDIDATE", "Judge a run against another.")
    parser.add_argument("--max-regression", action="append", required=True, metavar="COLUMN=LIMIT")
    parser.add_argument("--allow-other-machine", action="store_true")
    parser.add_argument("--allow-noisy", action="store_true")
    options = parser.parse_args(arguments[1:])
    limits = [parse_limit(text) for text in options.max_regression]
    runs = _read_for_selection(options.results)
    pair = select_sides(options.a, options.b, runs)
    check_comparable(
        *pair,
        allow_other_machine=options.allow_other_machine,
        allow_noisy=options.allow_noisy,
    )
    verdicts = judge_all(limits, *pair)
    failed = any(verdict.outcome == FAIL for verdict in verdicts)
    refused = [verdict.reason for verdict in verdicts if verdict.reason]
    if refused and not failed:
        raise ReportError("; ".join(refused))
    print("\n".join(verdict.line for verdict in verdicts))
    return 1 if failed else 0


def _pair_parser(name: str, first: str, second: str, description: str) -> _Parser:
    parser = _Parser(
        prog=f"{PROGRAM} {name}",
        description=description,
        epilog="A run is a folder, the beginning of a fingerprint, or key=value,...",
    )
    parser.add_argument("a", metavar=first)
    parser.add_argument("b", metavar=second)
    parser.add_argument("--results", type=Path, default=Path(RESULTS), metavar="DIR")
    return parser


def _read_for_selection(results_dir: Path) -> list[Run]:
    """The runs to select from; none where folders are named and there is no results folder."""
    return _read_and_tell(results_dir).runs if os.path.isdir(results_dir) else []


def run_best(arguments: Sequence[str]) -> int:
    """Find the best run; status 1: no run meets the conditions."""
    from profiling.report.say.best import check_objective, parse_condition, write_best

    parser = _Parser(prog=f"{PROGRAM} best", description="The best run that meets conditions.")
    objective = parser.add_mutually_exclusive_group(required=True)
    objective.add_argument("--minimize", metavar="COLUMN")
    objective.add_argument("--maximize", metavar="COLUMN")
    parser.add_argument("--subject-to", action="append", default=[], metavar="CONDITION")
    parser.add_argument("--results", type=Path, default=Path(RESULTS), metavar="DIR")
    options = parser.parse_args(arguments[1:])
    column = check_objective(options.minimize or options.maximize)
    conditions = [parse_condition(text) for text in options.subject_to]
    runs = read_all(options.results).runs
    lines = write_best(runs, column, conditions, most=options.maximize is not None)
    print("\n".join(lines) if lines else "no run meets all conditions")
    return 0 if lines else 1


def run_explain(arguments: Sequence[str]) -> int:
    """Explain the times of a run; the status is 0 for any result."""
    from profiling.report.read.selection import select_rounds
    from profiling.report.say.explanation import explain_run

    parser = _Parser(prog=f"{PROGRAM} explain", description="Whether the times are normal.")
    parser.add_argument("run", metavar="RUN", help="a folder, a fingerprint, or key=value,...")
    parser.add_argument("--results", type=Path, default=Path(RESULTS), metavar="DIR")
    options = parser.parse_args(arguments[1:])
    runs = _read_for_selection(options.results)
    rounds = select_rounds(options.run, runs)
    for number, run in enumerate(rounds):
        print("\n".join(([""] if number else []) + explain_run(run, runs)))
    return 0


def read_all(results_dir: Path, *, pictures: bool = False) -> Runs:
    """Every run of a folder; records that cannot be read are named on the error stream."""
    # Path.is_dir raises an error for a name that is too long.
    if not os.path.isdir(results_dir):
        raise ReportError(f"{shorten(results_dir)}: there is no such results folder")
    found = _read_and_tell(results_dir, pictures=pictures)
    if not found.runs:
        raise ReportError(f"{shorten(results_dir)}: holds no run that can be read")
    return found


def _read_and_tell(results_dir: Path, *, pictures: bool = False) -> Runs:
    found = read_runs(results_dir, pictures=pictures)
    for problem in found.problems:
        print(one_line(problem), file=sys.stderr)
    return found


def write_text(path: Path, text: str) -> None:
    """Write one file, and its folder where it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"{shorten(path)}: cannot be written: {describe(error)}") from None
