"""Every sentence of the report is written for data that show it, and not for data that do not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.composing import PROJECT
from tests.report.say.claims import Claim, list_claims

SAY = PROJECT / "profiling" / "report" / "say"
CLAIMS = list(list_claims())
# A text of so many words is a sentence, or makes one.
LEAST_WORDS = 4
# Refusals of what was typed, and lines that only repeat what the records say.
EXCUSED = {
    *("best.parse_condition", "best.check_objective", "best._line", "gate.parse_limit"),
    *("two_runs.check_comparable", "two_runs._check_paired", "two_runs.compare_points"),
}
# Explanations of marks, which `explain` shows where a mark is used.
EXCUSED_FILES = {"marks"}


def name_of(claim: Claim) -> str:
    return f"{claim.writer}: {claim.text.strip()}"


def test_a_sentence_needs_data_that_show_it(tmp_path: Path) -> None:
    not_said, said_without_data = [], []
    for number, claim in enumerate(CLAIMS):
        shows = re.compile(claim.shows or re.escape(claim.text))
        if not shows.search(claim.said(tmp_path / f"said{number}")):
            not_said.append(name_of(claim))
        if shows.search(claim.unsaid(tmp_path / f"unsaid{number}")):
            said_without_data.append(name_of(claim))
    assert CLAIMS and (not_said, said_without_data) == ([], [])


@cache
def list_functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def texts_in(function: ast.FunctionDef) -> Iterator[str]:
    """The texts of a function, with `{}` for what is filled in; no docstring."""
    inside = {
        id(part)
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    first = function.body[0]
    docstring = id(first.value) if isinstance(first, ast.Expr) else None
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif id(node) not in inside | {docstring} and isinstance(node, ast.Constant):
            yield str(node.value)


def list_sentences() -> Iterator[tuple[str, str]]:
    for path in sorted(SAY.glob("*.py")):
        if path.stem in EXCUSED_FILES:
            continue
        for node in list_functions(path):
            if f"{path.stem}.{node.name}" not in EXCUSED:
                for text in texts_in(node):
                    if len(re.findall(r"[A-Za-z]{2,}", text)) >= LEAST_WORDS:
                        yield f"{path.stem}.{node.name}", text


SENTENCES = list(list_sentences())


def test_no_sentence_is_without_a_claim() -> None:
    known: dict[str, list[str]] = {}
    for claim in CLAIMS:
        known.setdefault(claim.writer, []).append(claim.text.strip())
    without = [
        f"{writer} writes {text!r}: add a claim with data that show it and data that do not"
        for writer, text in SENTENCES
        if not any(part in text for part in known.get(writer, []))
    ]
    assert SENTENCES and without == []


def test_every_function_that_says_something_has_a_claim() -> None:
    """Short sentences too: whatever begins with `say`."""
    named = {
        f"{path.stem}.{node.name}"
        for path in SAY.glob("*.py")
        for node in list_functions(path)
        if re.match(r"_?say_", node.name)
    }
    only_forms = {
        *("units.say_ratio", "units.say_reached", "two_runs.say_change", "two_runs.say_bounds"),
        *("sentences.say_time", "sentences._say_optimizations", "cautions.say_cautions"),
        *("sentences.say_scope", "sentences.say_outcomes", "sentences.say_origin"),
        "sentences.say_ranking",
    }
    assert named - only_forms <= {claim.writer for claim in CLAIMS}


def test_no_claim_is_of_a_sentence_that_is_gone() -> None:
    gone = []
    for claim in CLAIMS:
        stem, _, function = claim.writer.partition(".")
        paths = [SAY / f"{stem}.py", SAY.parent / "write" / f"{stem}.py"]
        path = next(path for path in paths if path.is_file())
        nodes = [node for node in list_functions(path) if node.name == function]
        if not any(claim.text in text for node in nodes for text in texts_in(node)):
            gone.append(name_of(claim))
    assert gone == []
