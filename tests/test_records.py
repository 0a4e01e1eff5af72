"""Records are written completely or not at all; broken ones are named and not read."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling import records
from profiling.metrics import UndeclaredMetric
from profiling.records import (
    AT_READING,
    COMPLETED,
    DERIVED,
    FAILED,
    MEASURED,
    STATUSES,
    SUMMARY_COLUMNS,
    BrokenRecord,
    Reading,
    finished_status,
    folder_for,
    read,
    reading,
    summarize,
    unavailable,
    write_record,
)
from tests.composing import PROJECT

CONTRACT = """
fingerprint status model weights dataset optimization img_size prompt_len batch_size max_new_tokens
device dtype num_samples num_repeats
latency_s latency_mean_s latency_std_s latency_min_s latency_max_s latency_p95_s latency_ci_low_s
latency_ci_high_s preprocess_s transfer_s vision_s projector_s prefill_s decode_s other_s ttft_s
tpot_s samples_per_s tokens_per_s
energy_j energy_source energy_ci_low_j energy_ci_high_j energy_estimate_j energy_estimate_source
flops flops_vision flops_projector flops_prefill flops_decode mfu_prefill mbu_decode
peak_memory_bytes peak_memory_source cpu_memory_delta_bytes cpu_memory_peak_bytes
gpu_memory_delta_bytes gpu_memory_peak_bytes model_bytes load_s
wer cer accuracy accuracy_name agreement speedup
num_question_tokens num_prompt_tokens num_visual_tokens num_new_tokens noisy noise_reason
engine computes_in acceptance_rate visual_tokens_kept speedup_ci_low speedup_ci_high speedup_source
latency_ci_confidence num_pictures num_frames pictures frames logit_error divergence
divergence_verdict
"""


def row_of(**changes: Any) -> Reading:
    plain: dict[str, Any] = {
        "phase": "total",
        "metric": "latency_s",
        "value": 0.5,
        "unit": "s",
        "status": "measured",
        "source": "a clock",
    }
    return Reading(**(plain | changes))


def run_of(fingerprint: str, **changes: Any) -> dict[str, Any]:
    summary = {column: None for column in SUMMARY_COLUMNS if column not in AT_READING}
    plain: dict[str, Any] = {
        "fingerprint": fingerprint,
        "status": COMPLETED,
        "error": None,
        "config": {"model": {"name": "llava"}},
        "machine": {"cpu_model": "a cpu"},
        "summary": summary | {"fingerprint": fingerprint, "status": COMPLETED, "latency_s": 0.5},
    }
    return plain | changes


def write(folder: Path, **changes: Any) -> None:
    answers = [{"id": "0", "answer": "Ünïcödé 画 <script>alert(1)</script>\u2028"}]
    write_record(folder, run=run_of(folder.name, **changes), readings=[row_of()], answers=answers)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two complete records; in the order of names a test's own record lies between them."""
    for name in ("aaaa", "zzzz"):
        write(tmp_path / "results" / name)
    return tmp_path / "results"


def names(results: Path) -> list[str]:
    return [record.folder.name for record in read(results).records]


# The format


def test_the_columns_are_those_of_the_contract() -> None:
    assert CONTRACT.split() == list(SUMMARY_COLUMNS)
    assert len(set(SUMMARY_COLUMNS)) == len(SUMMARY_COLUMNS)
    compared = (*("speedup_ci_low", "speedup_ci_high", "speedup_source"), "latency_ci_confidence")
    assert ("agreement", "speedup", *compared) == AT_READING


def test_a_record_comes_back_as_it_was_written(results: Path) -> None:
    record = read(results).records[0]
    assert (record.status, record.fingerprint) == (COMPLETED, "aaaa")
    assert record.config == {"model": {"name": "llava"}}
    assert record.run["schema_version"] == 1
    assert record.summary["latency_s"] == 0.5
    assert record.answers == [{"id": "0", "answer": "Ünïcödé 画 <script>alert(1)</script>\u2028"}]
    assert list(record.readings.columns) == [
        "phase",
        "metric",
        "value",
        "unit",
        "status",
        "source",
        "repeat",
        "batch",
    ]
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "answers.jsonl",
        "readings.csv",
        "run.json",
    ]


def test_the_table_has_a_row_a_run_and_the_columns_of_the_contract(results: Path) -> None:
    table = records.load(results)
    assert list(table.columns) == list(SUMMARY_COLUMNS)
    assert table["fingerprint"].tolist() == ["aaaa", "zzzz"]
    assert table["latency_s"].tolist() == [0.5, 0.5]
    assert table["energy_j"].isna().all()
    empty = records.load(results / "nothing here")
    assert list(empty.columns) == list(SUMMARY_COLUMNS) and empty.empty


def test_a_column_of_the_table_has_one_kind_whatever_is_missing(tmp_path: Path) -> None:
    for name, noisy, size in (("aaaa", True, 224), ("bbbb", None, 336)):
        summary = {"latency_s": 0.5, "noisy": noisy, "img_size": size, "prompt_len": None}
        write(tmp_path / name, summary=summary)
    table = records.load(tmp_path)
    kinds = {name: str(table[name].dtype) for name in ("img_size", "prompt_len", "latency_s")}
    assert kinds == {"img_size": "int64", "prompt_len": "float64", "latency_s": "float64"}
    assert table["noisy"].dtype == "boolean" and table["energy_source"].dtype == "str"
    assert table[table["noisy"]]["fingerprint"].tolist() == ["aaaa"]
    assert table["status"].tolist() == [COMPLETED, COMPLETED]
    empty = records.load(tmp_path / "nothing here")
    assert empty["latency_s"].dtype == "float64" and empty["model"].dtype == "str"


def test_a_record_that_the_table_lacks_is_warned_of(results: Path) -> None:
    write(results / "mmmm", summary={"latency_s": "quick"})
    with pytest.warns(UserWarning, match=r"mmmm.*summary\.latency_s"):
        assert records.load(results)["fingerprint"].tolist() == ["aaaa", "zzzz"]


# Anything but a number in these columns of a reading is text that people wrote.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=30)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
READINGS = st.lists(
    st.builds(
        Reading,
        phase=st.sampled_from(["total", "vision", "run"]),
        metric=st.sampled_from(["latency_s", "vision_s"]),
        value=st.none() | FINITE | st.integers(0, 2**53),
        unit=st.sampled_from(["s", "1", "bytes"]),
        status=st.sampled_from(["measured", "estimated", "derived", "unavailable"]),
        source=TEXT,
        repeat=st.none() | st.integers(0, 1000),
        batch=st.none() | st.integers(0, 1000),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(written=READINGS)
def test_readings_come_back_to_the_last_digit(written: list[Reading], tmp_path_factory) -> None:
    folder = tmp_path_factory.getbasetemp() / "readings" / "aaaa"
    write_record(folder, run=run_of("aaaa"), readings=written, answers=[])
    (record,) = read(folder.parent).records
    table = record.readings
    assert len(table) == len(written)
    for row, one in zip(table.to_dict("records"), written, strict=True):
        assert row["value"] == one.value or (one.value is None and math.isnan(row["value"]))
        for name in ("phase", "metric", "unit", "status"):
            assert row[name] == getattr(one, name)


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    write_record(
        tmp_path / "aaaa", run=run_of("aaaa"), readings=[row_of(unit="1", source="7")], answers=[]
    )
    (record,) = read(tmp_path).records
    assert record.readings[["unit", "source"]].to_numpy().tolist() == [["1", "7"]]


def test_a_carriage_return_does_not_end_a_row(tmp_path: Path) -> None:
    readings = [row_of(source="one\rtwo"), row_of(source='three\n"four",\r\nfive')]
    write_record(tmp_path / "aaaa", run=run_of("aaaa"), readings=readings, answers=[])
    (record,) = read(tmp_path).records
    assert record.readings["source"].tolist() == ["one two", 'three\n"four", \nfive']


@settings(deadline=None)
@given(
    answers=st.lists(
        st.dictionaries(TEXT, st.none() | FINITE | st.booleans() | TEXT | st.lists(TEXT)),
        max_size=5,
    )
)
def test_answers_come_back_as_they_were(answers: list[dict], tmp_path_factory) -> None:
    folder = tmp_path_factory.getbasetemp() / "answers" / "aaaa"
    write_record(folder, run=run_of("aaaa"), readings=[], answers=answers)
    (record,) = read(folder.parent).records
    assert record.answers == answers


def test_an_answer_of_ten_megabytes(results: Path) -> None:
    long = "word " * 2_000_000
    write_record(
        results / "long", run=run_of("long"), readings=[row_of()], answers=[{"answer": long}]
    )
    record = read(results).records[1]
    assert record.answers == [{"answer": long}]


# Summaries


def test_a_summary_is_made_of_aggregates_alone() -> None:
    summary = summarize(
        [
            row_of(value=1.0),
            row_of(value=2.0, repeat=0, batch=0),
            row_of(value=3.0, batch=0),
            row_of(phase="vision", metric="vision_s", value=0.2),
            row_of(metric="energy_j", value=7.0, source="RAPL"),
            row_of(metric="energy_estimate_j", value=9.0, source="CodeCarbon"),
            row_of(metric="accuracy", value=0.5, source="option"),
            unavailable("wer", "no answers"),
            unavailable("peak_memory_bytes", "no counter"),
        ]
    )
    assert summary == {
        "latency_s": 1.0,
        "vision_s": 0.2,
        "energy_j": 7.0,
        "energy_source": "RAPL",
        "energy_estimate_j": 9.0,
        "energy_estimate_source": "CodeCarbon",
        "accuracy": 0.5,
        "accuracy_name": "option",
        "wer": None,
        "peak_memory_bytes": None,
        "peak_memory_source": None,
    }


def test_what_is_unavailable_has_a_reason_and_no_value() -> None:
    row = unavailable("vision_s", "there is no vision part")
    assert (row.value, row.status, row.source) == (None, "unavailable", "there is no vision part")
    assert (row.phase, row.unit) == ("vision", "s")
    assert row.is_aggregate


def test_a_reading_has_the_unit_and_the_phase_of_its_metric() -> None:
    row = reading("tpot_s", value=0.5, status=MEASURED, source="a clock")
    assert row == row_of(phase="decode", metric="tpot_s", value=0.5)
    pattern = reading("flops_vision_analytic", value=7, status=DERIVED, source="arithmetic")
    assert (pattern.phase, pattern.unit) == ("vision", "FLOP")


def test_the_raw_rows_of_a_metric_may_be_of_any_phase() -> None:
    row = reading("latency_s", value=1, status=MEASURED, source="x", phase="vision", repeat=0)
    assert (row.phase, row.is_aggregate) == ("vision", False)
    with pytest.raises(ValueError, match="total"):
        reading("latency_s", value=1, status=MEASURED, source="x", phase="vision")


@pytest.mark.parametrize("name", ["latency", "latency_seconds", "flops_speech_analytic", ""])
def test_an_undeclared_metric_is_a_programming_error(name: str) -> None:
    with pytest.raises(UndeclaredMetric, match="not a declared metric"):
        reading(name, value=1.0, status=MEASURED, source="x")
    with pytest.raises(UndeclaredMetric, match="not a declared metric"):
        unavailable(name, "no reason")


def test_the_error_names_what_is_declared_and_similar() -> None:
    with pytest.raises(UndeclaredMetric, match="latency_std_s"):
        unavailable("latency_sd_s", "no reason")


@pytest.mark.parametrize("name", ["fingerprint", "energy_source", "speedup", "noisy"])
def test_what_only_the_summary_has_is_never_a_reading(name: str) -> None:
    with pytest.raises(ValueError, match="summary alone"):
        unavailable(name, "no reason")


# Torn writes


class Killed(BaseException):
    """A kill: nothing of the process runs after it."""


def _count_steps(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    return _write_and_die(monkeypatch, folder, step=None)


def _write_and_die(monkeypatch: pytest.MonkeyPatch, folder: Path, *, step: int | None) -> int:
    """Write a record, and die just before the given file operation; how many there were."""
    seen = 0

    def dying(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            if seen == step:
                raise Killed
            seen += 1
            return operation(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "mkdir", "unlink", "rmdir", "open", "close"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(Path, "open", dying(Path.open))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        write(folder, status=COMPLETED)
    return seen


@pytest.mark.parametrize("before", ["nothing", "a failed record", "a torn run"])
def test_a_kill_at_any_moment_leaves_a_whole_record_or_none(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(results: Path) -> Path:
        folder = results / "mmmm"
        for name in ("aaaa", "zzzz"):
            write(results / name)
        if before == "a failed record":
            write(folder, status=FAILED, error="an old failure")
        elif before == "a torn run":
            write(folder)
            (folder / "run.json").unlink()
        return folder

    steps = _count_steps(monkeypatch, prepare(tmp_path / "whole"))
    assert steps >= 8
    outcomes = set()
    for step in range(steps):
        results = tmp_path / str(step)
        folder = prepare(results)
        with pytest.raises(Killed):
            _write_and_die(monkeypatch, folder, step=step)
        outcomes.add(_check_after_kill(results, folder, before))
    assert "none" in outcomes


def _check_after_kill(results: Path, folder: Path, before: str) -> str:
    collection = read(results)
    found = {record.folder.name: record for record in collection.records}
    assert {"aaaa", "zzzz"} <= set(found)
    outcome = "none"
    if "mmmm" in found:
        assert found["mmmm"].answers and len(found["mmmm"].readings) == 1
        outcome = found["mmmm"].status
        assert outcome == COMPLETED or before == "a failed record"
    elif folder.exists():
        assert [str(folder) in problem for problem in collection.problems] == [True]
    # Either way the next run of the same point finds its place and fills it.
    assert finished_status(folder) == (None if outcome == "none" else outcome)
    write(folder_for(results, "mmmm", resume=True))
    assert names(results) == ["aaaa", "mmmm", "zzzz"]
    return outcome


def test_a_disk_that_is_full_leaves_no_record(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write(results / "mmmm")
    assert names(results) == ["aaaa", "zzzz"]
    assert finished_status(results / "mmmm") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_written_as_one(value: float, results: Path) -> None:
    summary = run_of("mmmm")["summary"] | {"latency_s": value}
    with pytest.raises(ValueError, match="JSON"):
        write(results / "mmmm", summary=summary)
    assert names(results) == ["aaaa", "zzzz"]


# Broken records


def _truncate(folder: Path) -> None:
    text = (folder / "run.json").read_text(encoding="utf-8")
    (folder / "run.json").write_text(text[: len(text) // 2], encoding="utf-8")


def _put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _edit(folder: Path, **changes: Any) -> None:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    text = json.dumps(run | changes)
    (folder / "run.json").write_text(text, encoding="utf-8")


def _cut(folder: Path, name: str) -> None:
    _put(folder, name, (folder / name).read_bytes()[:-5])


def _summary(value: str) -> bytes:
    run = json.dumps(run_of("mmmm") | {"schema_version": 1, "summary": {"latency_s": "HERE"}})
    return run.replace('"HERE"', value).encode()


BREAKAGES: dict[str, Callable[[Path], None]] = {
    "no run.json": lambda folder: (folder / "run.json").unlink(),
    "run.json cut": _truncate,
    "run.json empty": lambda folder: _put(folder, "run.json", b""),
    "run.json no text": lambda folder: _put(folder, "run.json", b"\xff\xfe{"),
    "run.json a list": lambda folder: _put(folder, "run.json", b"[]"),
    "run.json null": lambda folder: _put(folder, "run.json", b"null"),
    "run.json nested without end": lambda folder: _put(folder, "run.json", b"[" * 200_000),
    "run.json with a number of many digits": lambda folder: _put(folder, "run.json", b"1" * 10_000),
    "another schema": lambda folder: _edit(folder, schema_version=2),
    "schema as text": lambda folder: _edit(folder, schema_version="1"),
    "schema true": lambda folder: _edit(folder, schema_version=True),
    "no schema": lambda folder: _edit(folder, schema_version=None),
    "status unknown": lambda folder: _edit(folder, status="done"),
    "status a list": lambda folder: _edit(folder, status=["completed"]),
    "config a text": lambda folder: _edit(folder, config="{}"),
    "summary a list": lambda folder: _edit(folder, summary=[]),
    "summary nested": lambda folder: _edit(folder, summary={"latency_s": {"a": 1}}),
    "fingerprint a path": lambda folder: _edit(folder, fingerprint="../../etc"),
    "fingerprint with markup": lambda folder: _edit(folder, fingerprint="<script>"),
    "fingerprint empty": lambda folder: _edit(folder, fingerprint=""),
    "NaN": lambda folder: _put(folder, "run.json", _summary("NaN")),
    "Infinity": lambda folder: _put(folder, "run.json", _summary("Infinity")),
    "1e999": lambda folder: _put(folder, "run.json", _summary("1e999")),
    "-1e999": lambda folder: _put(folder, "run.json", _summary("-1e999")),
    "readings missing": lambda folder: (folder / "readings.csv").unlink(),
    "readings empty": lambda folder: _put(folder, "readings.csv", b""),
    "readings cut inside a line": lambda folder: _cut(folder, "readings.csv"),
    "readings cut in the header": lambda folder: _put(folder, "readings.csv", b"phase,met"),
    "readings of another shape": lambda folder: _put(folder, "readings.csv", b"a,b\n1,2\n"),
    "answers missing": lambda folder: (folder / "answers.jsonl").unlink(),
    "answers cut inside a line": lambda folder: _cut(folder, "answers.jsonl"),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_record_is_named_and_nothing_else_is_lost(
    breakage: Callable[[Path], None], results: Path
) -> None:
    write(results / "mmmm")
    breakage(results / "mmmm")
    collection = read(results)
    assert [record.folder.name for record in collection.records] == ["aaaa", "zzzz"]
    (problem,) = collection.problems
    assert str(results / "mmmm") in problem and "\n" not in problem
    # A point whose record is broken runs again.
    assert finished_status(results / "mmmm") is None


LAZY_BREAKAGES = {
    "readings with bytes that are no text": ("readings.csv", b"\xff,\xfe,1,s,measured,x,,\n"),
    "readings with a row too long": ("readings.csv", b"a,b,1,s,measured,x,,,,,,,,\n"),
    "answers with a line that is no JSON": ("answers.jsonl", b"{'id': 1}\n"),
    "answers with a line that is a list": ("answers.jsonl", b"[1]\n"),
    "answers with NaN": ("answers.jsonl", b'{"wer": NaN}\n'),
    "answers with bytes that are no text": ("answers.jsonl", b'{"id": "\xff"}\n'),
    "answers nested without end": ("answers.jsonl", b"[" * 200_000 + b"\n"),
}


@pytest.mark.parametrize(("name", "line"), LAZY_BREAKAGES.values(), ids=LAZY_BREAKAGES)
def test_what_is_found_broken_on_a_closer_look_is_named_too(
    name: str, line: bytes, results: Path
) -> None:
    path = results / "aaaa" / name
    path.write_bytes(path.read_bytes() + line)
    record = read(results).records[0]
    with pytest.raises(BrokenRecord) as broken:
        assert record.readings is None or record.answers is None
    assert str(path) in str(broken.value)


def test_what_is_no_record_is_not_read(results: Path) -> None:
    (results / ".locks").mkdir()
    (results / "notes.txt").write_text("mine", encoding="utf-8")
    (results / "dangling").symlink_to("nowhere")
    assert names(results) == ["aaaa", "zzzz"] and read(results).problems == []
    assert read(results / "notes.txt").records == []
    assert read(results / "not there").records == []


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_named(content: bytes, tmp_path_factory) -> None:
    results = tmp_path_factory.getbasetemp() / "fuzzed"
    if not (results / "aaaa").is_dir():
        write(results / "aaaa")
        write(results / "mmmm")
    (results / "mmmm" / "run.json").write_bytes(content)
    collection = read(results)
    assert [record.folder.name for record in collection.records] == ["aaaa"]
    assert len(collection.problems) == 1


@settings(deadline=None)
@given(
    position=st.floats(0, 1, exclude_max=True),
    replacement=st.binary(max_size=3),
)
def test_a_damaged_record_is_read_or_named(
    position: float, replacement: bytes, tmp_path_factory
) -> None:
    results = tmp_path_factory.getbasetemp() / "damaged"
    write(results / "mmmm")
    path = results / "mmmm" / "run.json"
    content = path.read_bytes()
    place = int(position * len(content))
    path.write_bytes(content[:place] + replacement + content[place + len(replacement) :])
    collection = read(results)
    assert len(collection.records) + len(collection.problems) == 1
    for record in collection.records:
        assert record.status in STATUSES and record.answers and record.summary is not None


# Places


def test_the_next_record_goes_beside_the_old_ones(tmp_path: Path) -> None:
    assert folder_for(tmp_path, "aaaa", resume=False).name == "aaaa"
    for expected in ("aaaa", "aaaa-2", "aaaa-3", "aaaa-4"):
        folder = folder_for(tmp_path, "aaaa", resume=False)
        assert folder.name == expected
        write(folder)
    assert folder_for(tmp_path, "aaaa", resume=True).name == "aaaa"
    (tmp_path / "aaaa-3" / "run.json").unlink()
    assert folder_for(tmp_path, "aaaa", resume=False).name == "aaaa-3"


@pytest.mark.parametrize("status", STATUSES)
def test_the_status_of_a_record_that_is_there(status: str, tmp_path: Path) -> None:
    assert finished_status(tmp_path / "aaaa") is None
    write(tmp_path / "aaaa", status=status)
    assert finished_status(tmp_path / "aaaa") == status


def test_a_failed_record_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "aaaa"
    write(folder, status=FAILED)
    (folder / "traceback.txt").write_text("of the failure", encoding="utf-8")
    write(folder, status=COMPLETED)
    assert not (folder / "traceback.txt").exists()
    assert finished_status(folder) == COMPLETED


# Many writers

WRITER = """
import sys
from pathlib import Path
from tests.test_records import write
for number in range(60):
    write(Path(sys.argv[1]) / f"{sys.argv[2]}{number:03}", error=sys.argv[2])
"""


def test_two_processes_write_side_by_side(tmp_path: Path) -> None:
    path = str(PROJECT)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            env=os.environ | {"PYTHONPATH": path},
        )
        for name in ("a", "b")
    ]
    while any(writer.poll() is None for writer in writers):
        # A reader in between sees whole records, and torn ones only as torn.
        collection = read(tmp_path)
        assert all("no run.json" in problem for problem in collection.problems)
    assert [writer.returncode for writer in writers] == [0, 0]
    collection = read(tmp_path)
    assert len(collection.records) == 120 and collection.problems == []
    for record in collection.records:
        assert record.folder.name[0] == record.run["error"]
        assert record.fingerprint == record.folder.name
