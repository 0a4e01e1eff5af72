"""The one loop from end to end: a point's model, samples and probes become readings and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import ConfigError
from profiling.points.point import Point
from profiling.records import (
    ANSWER_FIELDS,
    COMPLETED,
    SUMMARY_COLUMNS,
    UNAVAILABLE,
    read,
    summarize,
    write_record,
)
from profiling.runs import experiment
from profiling.runs.experiment import (
    Findings,
    answer,
    load,
    measure,
)
from profiling.samples.samples import Sample
from tests import tiny_models
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, take_samples

SHORT = ("profiler=quick", "profiler.repeats=2", "max_new_tokens=6")
# What is not read off the probes: the worker writes it, or the report works it out.
ELSEWHERE = {
    *("fingerprint", "status", "model", "weights", "dataset", "optimization", "img_size"),
    *("prompt_len", "batch_size", "max_new_tokens", "device", "dtype", "num_samples"),
    *("agreement", "speedup", "noisy", "noise_reason"),
    *("engine", "computes_in", "acceptance_rate", "visual_tokens_kept"),
    *("speedup_ci_low", "speedup_ci_high", "speedup_source", "latency_ci_confidence"),
    *("num_pictures", "num_frames"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield


def run(point: Point, samples: tuple[Sample, ...]) -> tuple[Findings, list[str]]:
    heard: list[str] = []
    findings = measure(point, samples, load(point), heard.append)
    return findings, heard


def check(point: Point, findings: Findings, samples: tuple[Sample, ...]) -> None:
    summary = summarize(findings.readings)
    missing = set(SUMMARY_COLUMNS) - ELSEWHERE - summary.keys()
    assert missing == set()
    for reading in findings.readings:
        assert (reading.value is None) == (reading.status == UNAVAILABLE), reading
        assert reading.source, reading
    assert [line["id"] for line in findings.answers] == [sample.id for sample in samples]
    for line in findings.answers:
        assert tuple(line) == ANSWER_FIELDS
        assert 1 <= line["num_new_tokens"] <= point.max_new_tokens
        assert line["num_visual_tokens"] + line["num_question_tokens"] < line["num_prompt_tokens"]


@pytest.fixture(scope="module")
def measured() -> tuple[Point, Findings, list[str]]:
    point = compose_point("model=llava", "batch_size=2", *SHORT)
    return (point, *run(point, take_samples(3)))


def test_every_column_is_filled_or_explained(
    measured: tuple[Point, Findings, list[str]],
) -> None:
    point, findings, _ = measured
    check(point, findings, take_samples(3))
    assert findings.dtype == "float32"


def test_costs_and_quality_are_there(measured: tuple[Point, Findings, list[str]]) -> None:
    summary = summarize(measured[1].readings)
    numbers = (
        *("latency_s", "vision_s", "prefill_s", "decode_s", "tokens_per_s", "flops"),
        *("peak_memory_bytes", "model_bytes", "load_s", "reference_nll", "num_prompt_tokens"),
    )
    for column in numbers:
        value = summary[column]
        assert isinstance(value, (int, float))
        assert value > 0, column
    # A trained model may have every word right.
    assert isinstance(summary["wer"], (int, float)) and summary["wer"] >= 0
    assert summary["num_repeats"] == 2
    assert summary["energy_j"] is None or summary["energy_source"] is not None


def test_what_is_going_on_is_told(measured: tuple[Point, Findings, list[str]]) -> None:
    point, _, heard = measured
    assert {f"measuring {name}" for name in point.profiler["probes"]} <= set(heard)
    assert "answering" in heard


def test_settings_that_a_probe_refuses_are_refused_before_anything_runs() -> None:
    point = compose_point("model=llava", *SHORT)
    point.profiler["probes"]["energy"]["windows"] = 1  # as a caller may who composes nothing
    heard: list[str] = []
    with pytest.raises(ConfigError, match=r"energy\.windows=1"):
        measure(point, take_samples(1), load(point), heard.append)
    assert heard == []


def test_the_record_of_a_point_can_be_read_back(
    measured: tuple[Point, Findings, list[str]], tmp_path: Path
) -> None:
    point, findings, _ = measured
    run_facts = {
        "fingerprint": "abc",
        "status": COMPLETED,
        "error": None,
        "config": point.as_config(),
        "machine": {},
        "summary": summarize(findings.readings),
    }
    write_record(
        tmp_path / "abc", run=run_facts, readings=findings.readings, answers=findings.answers
    )
    collection = read(tmp_path)
    assert collection.problems == []
    (record,) = collection.records
    assert len(record.readings) == len(findings.readings)
    assert record.answers == findings.answers


@pytest.mark.slow
def test_random_values_have_costs_and_no_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded network stands for a full-size one of random values."""
    point = compose_point("model=llava", *SHORT)
    loaded = load(point)
    assert isinstance(loaded.engine, TransformersEngine)
    loaded.engine.model.stored_values = False
    summary_of = measure(point, take_samples(2), loaded, lambda _: None)
    absent = {r.metric: r.source for r in summary_of.readings if r.status == UNAVAILABLE}
    for metric in ("wer", "cer", "accuracy", "num_new_tokens"):
        assert "random" in absent[metric]
    assert {line["answer"] for line in summary_of.answers} == {None}
    assert {line["wer"] for line in summary_of.answers} == {None}
    summary = summarize(summary_of.readings)
    assert summary["latency_s"]
    assert summary["num_prompt_tokens"]


@pytest.mark.parametrize("family", slow_except(FAMILIES, "llava", "qwen25vl"))
def test_an_answer_says_what_was_asked_and_seen(family: str) -> None:
    engine = tiny_models.load(family)
    point = compose_point(f"model={family}", "batch_size=2", "prompt_len=12", "max_new_tokens=4")
    samples = take_samples(3)
    lines = list(answer(point, samples, engine))
    assert [line["id"] for line in lines] == [sample.id for sample in samples]
    for line, sample in zip(lines, samples, strict=True):
        assert line["num_question_tokens"] == 12
        assert line["references"] == list(sample.references)
        assert sample.request.split()[0] in line["prompt"]
        assert line["answer"] not in line["prompt"] or line["answer"] == ""
        assert line["image_width"] % engine.family.processing.multiple == 0
    # A last batch that is short is answered too, and as it would be in company.
    alone = list(answer(point, samples[2:], engine))
    assert alone == lines[2:]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_measured(family: str) -> None:
    point = compose_point(f"model={family}", "batch_size=2", "optimization=bf16", *SHORT)
    findings, _ = run(point, take_samples(4))
    check(point, findings, take_samples(4))
    assert findings.dtype == "bfloat16"


def test_a_noisy_machine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(experiment.NoGate):
        reason = "somebody else is at work"  # type: ignore[assignment]

        def __enter__(self) -> Busy:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(experiment, "_gate", lambda *_, timed: Busy() if timed else quiet())
    point = compose_point("model=llava", *SHORT)
    point.profiler["probes"] = {"latency": point.profiler["probes"]["latency"]}
    findings = measure(point, take_samples(1), load(point), lambda _: None)
    assert findings.noise is not None
    assert "somebody else" in findings.noise


class quiet(experiment.NoGate):
    def __enter__(self) -> quiet:
        return self

    def __exit__(self, *_: object) -> None:
        pass
