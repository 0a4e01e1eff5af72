"""A toy engine, registered as a user would: a folder, a yaml, and no framework in the process."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from profiling.engines.engine import Engine, find_engine
from profiling.errors import Unsupported
from profiling.records import ANSWER_FIELDS, COMPLETED, UNAVAILABLE, Record, read
from tests.composing import PROJECT, compose_point

# What a copy of the project needs to run points; the rest is not looked at.
CODE = ("profiling", "conf", "hydra_plugins")
LINKED = ("datasets", "checkpoints")
REASON = "the toy works in one stretch"

ENGINE = f'''
"""An engine that knows its answers: one token for each word of the first reference."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from profiling.engines.engine import Engine, Footprint, Row
from profiling.engines.trace import Clock, HostClock, Trace
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.samples.samples import Sample

FILLER = "and"


class Toy(Engine):
    blind: Mapping[str, str] = dict.fromkeys(("vision", "projector", "prefill"), {REASON!r})
    has_values = True

    def __init__(self, *, token_s: float) -> None:
        self.token_s = token_s

    @classmethod
    def check(cls, point: Point) -> None:
        if point.device != "cpu":
            raise Unsupported("the toy plays on the CPU")

    @classmethod
    def load(cls, point: Point) -> Self:
        return cls(token_s=point.engine_settings["token_s"])

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        return False

    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> list[Sample]:
        return list(samples)

    def encode(self, batch: list[Sample], img_size: int) -> list[list[str]]:
        return [sample.references[0].split() for sample in batch]

    def generate(
        self, inputs: list[list[str]], *, length: int, exact: bool, trace: Trace | None
    ) -> list[list[str]]:
        longest = max(len(words) for words in inputs)
        for count in range(1, (length if exact else min(length, longest)) + 1):
            time.sleep(self.token_s)
            if trace is not None:
                trace.tokens(count)
        if exact:
            return [(words + [FILLER] * length)[:length] for words in inputs]
        return [words[:length] for words in inputs]

    def describe(self, batch: list[Sample], inputs: Any, generated: Any | None) -> list[Row]:
        return [
            Row(
                prompt=sample.request,
                answer=" ".join(words),
                num_question_tokens=len(sample.request.split()),
                num_prompt_tokens=None,
                num_visual_tokens=None,
                num_new_tokens=len(words),
                image_width=None,
                image_height=None,
            )
            for sample, words in zip(batch, generated, strict=True)
        ]

    def tokens(self, generated: list[list[str]]) -> list[list[int]]:
        return [[len(word) for word in words] for words in generated]

    def reference_nlls(
        self, inputs: Any, references: Sequence[str], length: int
    ) -> list[float | None]:
        raise Unsupported("the toy is sure of everything")

    def clock(self) -> Clock:
        return HostClock(source="perf_counter_ns around the toy")

    def footprint(self) -> Footprint:
        return Footprint(
            pids=(os.getpid(),),
            device="cpu",
            gpu_uuid=None,
            dtype=None,
            computes_in=None,
            model_bytes=None,
            accelerator=None,
        )


ENGINE = Toy
'''

YAML = """
name: toy
room: toy
token_s: 0.0005
"""

# What the command does with one point, in one process, which is then looked through.
DRIVER = """
import json, sys
from pathlib import Path
import hydra
from profiling.points.configuration import read_config, read_point
from profiling.records import summarize, write_record
from profiling.runs import experiment
from profiling.samples.samples import load_samples

with hydra.initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
    config = read_config(hydra.compose("config", sys.argv[1:]))
point = read_point(config, device="cpu", cores=2)
samples = load_samples(Path(point.dataset_folder), count=None, at_most=point.num_samples)
heard = []
loaded = experiment.load(point)
found = experiment.measure(point, samples, loaded, heard.append)
run = {"fingerprint": "toy", "status": "completed", "error": None, "machine": {}}
run |= {"config": point.as_config(), "summary": summarize(found.readings)}
write_record(Path("alone/toy"), run=run, readings=found.readings, answers=found.answers)
heavy = sorted({"torch", "transformers", "onnxruntime"} & sys.modules.keys())
print(json.dumps({"heard": heard, "heavy": heavy, "probes": list(point.profiler["probes"])}))
"""
CHOSEN = (
    *("engine=toy", "profiler=quick", "num_samples=4", "max_new_tokens=5", "batch_size=2"),
    "profiler.repeats=3",
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with one engine more."""
    folder = tmp_path_factory.mktemp("project")
    for name in CODE:
        # With what is compiled already, but not what another process is about to rename.
        ignored = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    for name in LINKED:
        (folder / name).symlink_to(PROJECT / name)
    shutil.copyfile(PROJECT / "main.py", folder / "main.py")
    room = folder / "profiling" / "engines" / "toy"
    room.mkdir()
    (room / "__init__.py").write_text('"""An engine that knows its answers."""\n')
    (room / "engine.py").write_text(ENGINE.lstrip())
    (folder / "conf" / "engine" / "toy.yaml").write_text(YAML.lstrip())
    return folder


@cache
def measured(folder: Path) -> tuple[dict[str, Any], Record]:
    """What a process told that measured the toy, and the record that it left."""
    command = [sys.executable, "-c", DRIVER, *CHOSEN]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    collection = read(folder / "alone")
    assert collection.problems == []
    (record,) = collection.records
    return json.loads(done.stdout.splitlines()[-1]), record


def aggregates(record: Record) -> dict[str, dict[str, Any]]:
    """Readings by metric that belong to no single repeat."""
    whole = record.readings[record.readings["repeat"].isna()]
    return {row["metric"]: row for row in whole.to_dict("records")}


def check_absent(reading: dict[str, Any]) -> None:
    assert reading["status"] == UNAVAILABLE
    assert math.isnan(reading["value"])


def test_no_framework_is_imported(copied: Path) -> None:
    told, _ = measured(copied)
    assert told["heavy"] == []


def test_every_probe_runs(copied: Path) -> None:
    told, record = measured(copied)
    assert {"latency", "memory", "flops", "energy"} <= set(told["probes"])
    assert {f"measuring {name}" for name in told["probes"]} <= set(told["heard"])
    metrics = set(record.readings["metric"])
    for metric in ("latency_s", "peak_memory_bytes", "flops", "energy_j", "mfu_prefill"):
        assert metric in metrics


def test_what_it_shows_is_measured(copied: Path) -> None:
    _, record = measured(copied)
    summary = record.summary
    # Five tokens of half a millisecond, at least: a sleep only ever lasts longer.
    assert summary["latency_s"] >= 0.0025
    assert summary["decode_s"] >= 4 * 0.0005
    assert summary["tpot_s"] >= 0.0005
    assert 0.0005 <= summary["ttft_s"] < summary["latency_s"]
    parts = ("preprocess_s", "transfer_s", "decode_s", "other_s")
    assert all(summary[part] >= 0 for part in parts)
    assert summary["tokens_per_s"] == pytest.approx(2 * 5 / summary["latency_s"])
    assert summary["peak_memory_bytes"] > 0
    assert summary["num_repeats"] == 3
    for repeat in range(3):
        repeats = record.readings[record.readings["repeat"] == repeat]
        rows = dict(zip(repeats["phase"], repeats["value"], strict=True))
        assert rows.keys() == {"total", "preprocess", "transfer", "decode", "other"}
        whole = rows.pop("total")
        assert sum(rows.values()) == pytest.approx(whole)


def test_a_blind_phase_has_no_number_and_the_engine_s_reason(copied: Path) -> None:
    _, record = measured(copied)
    for phase in ("vision", "projector", "prefill"):
        reading = aggregates(record)[f"{phase}_s"]
        check_absent(reading)
        assert reading["source"] == REASON


def test_what_the_engine_does_not_know_is_unavailable_with_a_reason(copied: Path) -> None:
    _, record = measured(copied)
    readings = aggregates(record)
    unknown = ("flops", "flops_decode", "mfu_prefill", "mbu_decode", "model_bytes")
    counts = ("num_prompt_tokens", "num_visual_tokens", "reference_nll")
    for metric in (*unknown, *counts):
        check_absent(readings[metric])
        assert len(readings[metric]["source"]) > 10
    assert readings["num_question_tokens"]["value"] > 0


def test_its_answers_are_judged(copied: Path) -> None:
    _, record = measured(copied)
    assert record.summary["wer"] == 0
    assert len(record.answers) == 4
    for line in record.answers:
        assert tuple(line) == ANSWER_FIELDS
        assert line["answer"] == " ".join(line["references"][0].split()[:5])
        assert line["reference_nll"] is None


def test_the_command_runs_it_as_it_runs_any_other(copied: Path) -> None:
    command = [sys.executable, "main.py", *CHOSEN, "results_dir=together"]
    done = subprocess.run(command, cwd=copied, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = read(copied / "together").records
    assert (record.status, record.summary["engine"]) == (COMPLETED, "toy")
    assert record.config["engine"]["token_s"] == 0.0005
    assert record.summary["wer"] == 0


@pytest.mark.slow
def test_another_setting_is_another_point(copied: Path) -> None:
    (before,) = [r.fingerprint for r in read(copied / "together").records] or [None]
    command = [sys.executable, "main.py", *CHOSEN, "results_dir=together", "engine.token_s=0.001"]
    done = subprocess.run(command, cwd=copied, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    addresses = {r.fingerprint for r in read(copied / "together").records}
    assert len(addresses) == 2 and before in addresses


@pytest.mark.slow
def test_an_unknown_engine_is_refused_in_one_line(copied: Path) -> None:
    command = [sys.executable, "main.py", "engine=game"]
    done = subprocess.run(command, cwd=copied, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "game" in line and "toy" in line


# What every engine is


def test_the_engine_of_a_point_is_the_one_that_its_yaml_names() -> None:
    for engine in sorted(path.stem for path in (PROJECT / "conf" / "engine").glob("*.yaml")):
        extra = {"endpoint": ("engine.url=http://localhost:1/v1", "engine.model=x")}
        point = compose_point(f"engine={engine}", *extra.get(engine, ()))
        kind = find_engine(point)
        assert issubclass(kind, Engine)
        assert kind.__module__ == f"profiling.engines.{point.room}.engine"
        assert not getattr(kind, "__abstractmethods__", None)


def test_what_an_engine_need_not_know_is_nothing_or_unsupported() -> None:
    class Bare(Engine):
        def __new__(cls) -> Bare:
            return object.__new__(cls)

    Bare.__abstractmethods__ = frozenset()
    bare: Any = Bare()
    with pytest.raises(Unsupported, match="its vision part alone"):
        bare.replay("vision", lambda: None)
    with pytest.raises(Unsupported, match="does not show what it computes"):
        bare.costs(None, length=1, cross_check=False)
    assert list(bare.answered()) == list(bare.memory_readings(None)) == []
    assert list(bare.readings(None, None)) == []
    assert bare.place("inputs") == "inputs"
