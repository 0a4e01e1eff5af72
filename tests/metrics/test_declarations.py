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
UNITS = {"_per_s": "1/s", "_bytes": "bytes", "_s": "s", "_j": "J", "_w": "W", "_hz": "Hz"}


def list_unknown_words(metric: Metric) -> dict[str, object]:
    """What is declared in other words than those that are known."""
    tables = {declaration.OVERVIEW, declaration.EFFECTS, declaration.COMPUTE, declaration.ANSWERS}
    tables |= {declaration.VARIANTS, declaration.COMPARED, declaration.GROWTH, declaration.CURVES}
    known = {
        "kind": metric.kind in ("number", "whole number", "text", "flag"),
        "better": metric.better in ("lower", "higher", "neither"),
        "shown_as": metric.shown_as in ("plain", "share", "ratio"),
        "column": metric.column in (None, "fixed", "added"),
        "tables": metric.tables <= tables,
        "title": bool(metric.title),
        "given_by": bool(metric.given_by),
        "phase": "{" not in metric.phase or metric.phase in metric.name,
    }
    return {key: getattr(metric, key) for key, is_known in known.items() if not is_known}


def test_a_declaration_uses_words_that_are_known() -> None:
    unknown = {metric.name: list_unknown_words(metric) for metric in DECLARED}
    assert {name: words for name, words in unknown.items() if words} == {}


def test_the_unit_is_that_of_the_name() -> None:
    """A name that ends in a unit says the unit that is declared."""
    rates = {"peak_flops_per_s": "FLOP/s", "peak_bytes_per_s": "bytes/s"}
    wrong = {}
    for metric in DECLARED:
        found = next((unit for end, unit in UNITS.items() if metric.name.endswith(end)), None)
        if metric.unit != rates.get(metric.name, found or metric.unit):
            wrong[metric.name] = metric.unit
    assert wrong == {}


def test_what_a_declaration_refers_to_is_declared() -> None:
    undeclared, of_other_units = {}, {}
    for metric in DECLARED:
        bounds = metric.bounds or ()
        names = (*bounds, *([metric.source_column] * bool(metric.source_column)))
        if missing := [name for name in names if not metrics.is_declared(name)]:
            undeclared[metric.name] = missing
        elif bounds and {metrics.find(name).unit for name in bounds} != {metric.unit}:
            of_other_units[metric.name] = bounds
    assert (undeclared, of_other_units) == ({}, {})


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
