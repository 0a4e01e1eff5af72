"""The declarations of metrics are consistent, and so are the lists derived from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiling import metrics
from profiling.metrics import PHASES, SUMMARY_COLUMNS, Metric, declaration
from profiling.metrics.catalog import _METRICS, GROUPS
from profiling.quality import find_applicable
from profiling.records import read
from tests.report.synthetic import write_run

DECLARED = [one for group in GROUPS for entry in group.entries for one in entry.metrics]
EVERY_METRIC = pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
UNITS = {"_per_s": "1/s", "_bytes": "bytes", "_s": "s", "_j": "J", "_w": "W", "_hz": "Hz"}


@EVERY_METRIC
def test_a_declaration_uses_words_that_are_known(metric: Metric) -> None:
    assert metric.kind in ("number", "whole number", "text", "flag")
    assert metric.better in ("lower", "higher", "neither")
    assert metric.shown_as in ("plain", "share", "ratio")
    assert metric.column in (None, "fixed", "added")
    tables = {declaration.OVERVIEW, declaration.EFFECTS, declaration.COMPUTE, declaration.ANSWERS}
    tables |= {declaration.VARIANTS, declaration.COMPARED, declaration.GROWTH, declaration.CURVES}
    assert metric.tables <= tables
    assert metric.title and metric.given_by
    assert "{" not in metric.phase or metric.phase in metric.name


@EVERY_METRIC
def test_the_unit_is_that_of_the_name(metric: Metric) -> None:
    """A name that ends in a unit says the unit that is declared."""
    found = next((unit for end, unit in UNITS.items() if metric.name.endswith(end)), None)
    rates = {"peak_flops_per_s": "FLOP/s", "peak_bytes_per_s": "bytes/s"}
    assert metric.unit == rates.get(metric.name, found or metric.unit)


@EVERY_METRIC
def test_what_a_declaration_refers_to_is_declared(metric: Metric) -> None:
    for name in (*(metric.bounds or ()), *([metric.source_column] * bool(metric.source_column))):
        assert metrics.is_declared(name)
    if metric.bounds:
        assert {metrics.find(name).unit for name in metric.bounds} == {metric.unit}


def test_every_name_is_declared_once_and_every_group_explains_itself() -> None:
    expanded = [one.name for metric in DECLARED for one in metric.expand()]
    assert len(expanded) == len(set(expanded))
    for group in GROUPS:
        assert group.literature
        for entry in group.entries:
            assert entry.definition and entry.method and entry.uncertainty and entry.limits


def test_titles_tell_metrics_apart() -> None:
    titles = [metric.title for metric in _METRICS.values()]
    assert sorted(title for title in set(titles) if titles.count(title) > 1) == []


def test_a_pattern_stands_for_one_metric_per_value() -> None:
    declared = metrics.find("energy_cpu_package_j")
    assert declared.title == "energy per sample, cpu package"
    assert metrics.find("least_decode_s").phase == "decode"
    assert not metrics.is_declared("energy_{component}_j")
    assert not metrics.is_declared("least_other_s")


def test_every_phase_has_its_column() -> None:
    assert [name for name in SUMMARY_COLUMNS if name.removesuffix("_s") in PHASES] == [
        f"{phase}_s" for phase in PHASES
    ]


def test_derived_columns() -> None:
    assert {"noisy"} == metrics.FLAG_COLUMNS
    assert {"img_size", "num_repeats"} <= metrics.WHOLE_COLUMNS
    assert {"status", "energy_source", "accuracy_name", "engine"} <= metrics.TEXT_COLUMNS
    assert not {"latency_s", "noisy", "img_size"} & metrics.TEXT_COLUMNS
    assert metrics.SOURCE_COLUMNS["accuracy"] == "accuracy_name"
    assert metrics.list_shown(metrics.GROWTH) == [
        *("latency_s", "energy_j", "energy_estimate_j", "wer"),
    ]


# Which rows a record must have


def config_of(**profiler: Any) -> dict[str, Any]:
    return {"profiler": {"probes": {}, **profiler}}


def test_each_probe_adds_the_rows_that_it_always_gives() -> None:
    without = metrics.expected(config_of(), text_metrics=())
    assert {"load_s", "model_bytes", "num_new_tokens"} <= without
    assert not {"latency_s", "noise_load_per_core", "mfu_prefill"} & without
    timed = config_of(probes={"latency": {}, "flops": {}}, noise={}, roofline={})
    found = metrics.expected(timed, text_metrics=())
    assert {"latency_s", "projector_s", "flops", "mfu_prefill", "noise_load_per_core"} <= found
    assert not {"energy_j", "wer"} & found
    # No row where there is nothing to say: what is made only for some variants or machines.
    assert not {"make_s", "flops_vision_fvcore", "noise_gpu_clock_hz"} & found
    assert not {"energy_source", "status", "speedup"} & found
    assert "logit_error" not in found
    assert "logit_error" in metrics.expected({**timed, "divergence": True}, text_metrics=())


@pytest.mark.parametrize(("accuracy", "there"), [(None, False), ("vqa", True), ("option", True)])
def test_the_way_of_judging_decides_which_text_metrics_apply(
    accuracy: str | None, there: bool
) -> None:
    suitable = find_applicable(headline="first", accuracy=accuracy)
    found = metrics.expected(config_of(), text_metrics=suitable)
    assert {"wer", "wer_ci_low", "cer", "reference_nll", "empty_references"} <= found
    assert ("accuracy_ci_low" in found) is there
    assert ("bleu4" in found) is not there


def test_a_record_that_lacks_a_row_is_found_out(tmp_path: Path) -> None:
    write_run(tmp_path)
    (record,) = read(tmp_path).records
    rows = set(record.readings["metric"])
    config = {"profiler": {"probes": {"latency": {}, "flops": {}, "memory": {}}}}
    missing = metrics.expected(config, text_metrics=["wer"]) - rows
    assert not {"latency_s", "flops", "vision_s", "wer"} & missing
    assert {"latency_p95_s", "wer_ci_low", "gpu_memory_peak_bytes"} <= missing
