"""What a verification found, as plain values: for the terminal, the page and a JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiling.captures.blind_spots import BlindSpot
from profiling.captures.divergence import Divergence
from profiling.captures.folder import Capture
from profiling.captures.judging import FORMULA, LARGEST, ROUNDING, Verdict
from profiling.captures.replay import Replayed

AGREES, DIFFERS, UNJUDGED = 0, 1, 2
_STATUS = {AGREES: "agrees", DIFFERS: "differs", UNJUDGED: "cannot be judged"}
_MOST_NAMED = 5
# An error of the original that no rounding in it explains, of the norm.
_FAR = 0.1


@dataclass(frozen=True, kw_only=True)
class Column:
    """A number of each call: its key, its title, and from where on it is too large."""

    key: str
    title: str
    limit: float | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """One row a call, the sentences that follow from them, and the exit status."""

    question: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]  # id, parent, module, kind, number, failed, and the columns
    sentences: Sequence[str]
    blind: Sequence[BlindSpot]
    status: int

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "status": _STATUS[self.status],
            "limits": {column.key: column.limit for column in self.columns},
            "sentences": list(self.sentences),
            "blind_spots": [
                {"subject": spot.subject, "name": spot.name, "reason": spot.reason}
                for spot in self.blind
            ],
            "calls": [_finite(row) for row in self.rows],
        }


def _finite(value: Any) -> Any:
    """JSON has no infinite numbers: they are texts there."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _row(capture: Capture, call: Any, failed: bool) -> dict[str, Any]:
    return {
        "id": call.id,
        "parent": call.parent,
        "module": call.module,
        "kind": capture.kind(call),
        "number": call.number,
        "failed": failed,
    }


# The original on its own calls


def of_replays(capture: Capture, replays: Sequence[Replayed]) -> Findings:
    rows = [
        {
            **_row(capture, one.call, not one.equal),
            "different": len(one.different),
            "why": one.unable or ", ".join(one.different),
        }
        for one in replays
    ]
    unequal = [one for one in replays if one.different]
    unable = [one for one in replays if one.unable is not None]
    equal = len(replays) - len(unequal) - len(unable)
    sentences = [f"{equal} of {len(replays)} calls are bit-equal when run again"]
    for one in unequal[:_MOST_NAMED]:
        where = ", ".join(path or "output" for path in one.different)
        sentences.append(f"OTHER BITS {_name(one.call)}: {where}")
    for one in unable[:_MOST_NAMED]:
        sentences.append(f"NOT RUN {_name(one.call)}: {one.unable}")
    status = DIFFERS if unequal else UNJUDGED if unable or not replays else AGREES
    column = Column(key="different", title="other bits", limit=0)
    return Findings(
        question="does the original give the same bits again?",
        columns=[column],
        rows=rows,
        sentences=sentences,
        blind=[],
        status=status,
    )


def _name(call: Any) -> str:
    return f"{call.module or '(the whole network)'}, call {call.number}"


# Functions

JUDGED = (
    Column(key="formula", title="formula", limit=FORMULA),
    Column(key="rounding", title="rounding", limit=ROUNDING),
    Column(key="largest", title="largest", limit=LARGEST),
)


def of_verdicts(
    capture: Capture,
    verdicts: Sequence[Verdict],
    blind: Sequence[BlindSpot],
    *,
    fresh: bool,
    kinds: Iterable[str] = (),
) -> Findings:
    """`kinds` are the classes that there are functions for."""
    failed = any(verdict.fails for verdict in verdicts)
    unjudged = fresh or not all(verdict.unjudged is None for verdict in verdicts)
    sentences = [
        *_say_innermost(verdicts),
        *_say_unjudged(verdicts),
        *_say_counts(capture, verdicts),
        *_say_notes(verdicts),
    ]
    uncalled = sorted(set(kinds) - {verdict.kind for verdict in verdicts})
    if uncalled:
        sentences.append(f"no captured call for the functions of {', '.join(uncalled)}")
    if fresh:
        sentences.append(
            "UNFIT: the weights are freshly initialised, norms all one and biases all zero; a"
            " function that leaves them out would pass"
        )
    status = DIFFERS if failed else UNJUDGED if unjudged or not verdicts else AGREES
    return Findings(
        question="do the functions compute what the modules do?",
        columns=JUDGED,
        rows=[_judged_row(capture, verdict) for verdict in verdicts],
        sentences=sentences,
        blind=blind,
        status=status,
    )


def _judged_row(capture: Capture, verdict: Verdict) -> dict[str, Any]:
    numbers = {column.key: verdict.worst(column.key) for column in JUDGED}
    return {
        **_row(capture, verdict.call, verdict.fails),
        **numbers,
        "own_error": verdict.worst("own_error"),
        "innermost": verdict.is_innermost,
        "why": "; ".join(verdict.failures()) or verdict.unjudged or "",
        "unread": list(verdict.unread),
        "not_compared": list(verdict.not_compared),
        "worst": [
            {"output": output.path, "index": list(index), "found": found, "wanted": wanted}
            for output in verdict.outputs
            for index, found, wanted in output.worst
        ],
    }


def _say_innermost(verdicts: Sequence[Verdict]) -> list[str]:
    """One sentence a class, since an error in a function shows wherever it is used."""
    by_kind: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.is_innermost:
            by_kind.setdefault(verdict.kind, []).append(verdict)
    sentences = []
    for kind, found in by_kind.items():
        first = found[0]
        more = f" (and {len(found) - 1} more calls of this class)" if len(found) > 1 else ""
        told = "; ".join(first.failures()[:2])
        unread = f"; it never reads {', '.join(first.unread[:4])}" if first.unread else ""
        sentences.append(f"FAILS {kind}, {_name(first.call)}: {told}{unread}{more}")
    return sentences


def _say_unjudged(verdicts: Sequence[Verdict]) -> list[str]:
    """One sentence a reason."""
    by_reason: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.unjudged is not None:
            by_reason.setdefault(verdict.unjudged, []).append(verdict)
    return [
        f"NOT JUDGED {found[0].kind}, {_name(found[0].call)}: {reason}"
        + (f" (and {len(found) - 1} more calls)" if len(found) > 1 else "")
        for reason, found in by_reason.items()
    ]


def _say_counts(capture: Capture, verdicts: Sequence[Verdict]) -> list[str]:
    kinds = {verdict.kind for verdict in verdicts}
    others = sorted({capture.kind(call) for call in capture.calls} - kinds)
    passed = sum(verdict.passes for verdict in verdicts)
    judged = sum(verdict.unjudged is None for verdict in verdicts)
    sentences = [f"{passed} of {judged} judged calls agree, of {len(capture.calls)} captured"]
    if others:
        sentences.append(f"no function for {', '.join(others)}")
    return sentences


def _say_notes(verdicts: Sequence[Verdict]) -> list[str]:
    sentences = [f"note: {note}" for note in _unique(n for v in verdicts for n in v.notes)]
    off = max((v.worst("own_error") or 0.0 for v in verdicts), default=0.0)
    if off > _FAR:
        sentences.append(
            f"note: what was captured is up to {off:.0%} off the original in float64, so that the"
            " rounding of a function says little; was it captured in training mode?"
        )
    unread = _unique(f"{v.kind}: {name}" for v in verdicts for name in v.unread)
    sentences += [f"never read by its function: {name}" for name in unread]
    left = _unique(f"{v.kind}: {path}" for v in verdicts for path in v.not_compared)
    return sentences + [f"returned by the module and not by its function: {name}" for name in left]


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


# Two captures


def of_divergence(capture: Capture, other: Capture, found: Divergence) -> Findings:
    rows = [
        {
            **_row(capture, pair.call, not pair.leaving <= found.tolerance),
            "entering": pair.entering,
            "leaving": pair.leaving,
        }
        for pair in found.pairs
    ]
    sentences = list(_say_other_inputs(found))
    for pair in found.origins[:_MOST_NAMED]:
        errors = f"{pair.entering:.1e} enters and {pair.leaving:.1e} leaves"
        sentences.append(f"PARTS {pair.kind}, {_name(pair.call)}: a relative error of {errors}")
    grown = sorted(found.apart, key=lambda pair: pair.growth, reverse=True)
    grown = [
        pair for pair in grown if pair.entering > found.tolerance and not pair.has_other_inputs
    ][:_MOST_NAMED]
    sentences += [
        f"grows {pair.growth:.3g} times in {pair.kind}, {_name(pair.call)}" for pair in grown
    ]
    apart = (
        f"{len(found.apart)} of {len(found.pairs)} calls differ by more than {found.tolerance:g}"
    )
    sentences.append(apart)
    if found.unpaired:
        sentences.append(f"{len(found.unpaired)} calls are not in {other.folder}")
    if found.only_other:
        sentences.append(f"{len(found.only_other)} calls are not in {capture.folder}")
    status = UNJUDGED if not found.pairs else DIFFERS if found.apart else AGREES
    return Findings(
        question=f"where does {other.folder} part from {capture.folder}?",
        columns=[
            Column(key="entering", title="entering", limit=None),
            Column(key="leaving", title="leaving", limit=found.tolerance),
        ],
        rows=rows,
        sentences=sentences,
        blind=[],
        status=status,
    )


def _say_other_inputs(found: Divergence) -> Iterator[str]:
    """Calls of which nothing can be said: they were not asked the same."""
    others = [pair for pair in found.pairs if pair.has_other_inputs]
    if found.first is not None and found.first in others:
        yield (
            f"OTHER INPUTS {found.first.kind}, {_name(found.first.call)}: the first call is given"
            " something else, so these are not captures of the same run"
        )
    elif others:
        yield (
            f"{len(others)} calls are given other shapes or other whole numbers, the first of them"
            f" {_name(others[0].call)}"
        )
