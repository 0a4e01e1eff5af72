"""A configuration key that the report does not know is treated like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiling.report import read_runs
from profiling.report.command import main
from profiling.report.read.keys import list_differing, list_keys, read_settings
from profiling.report.read.sweeps import (
    describe_setting,
    find_sweeps,
    growing_keys,
    newest,
    variant_keys,
)
from profiling.report.write.html import to_html
from profiling.report.write.pages import write_pages
from tests.report.synthetic import write_run


def pages_of(results: Path, output: Path) -> dict[str, str]:
    write_pages(read_runs(results), output, command="x")
    return {path.stem: path.read_text(encoding="utf-8") for path in output.glob("*.md")}


def settings_of(**config: Any) -> dict[str, Any]:
    return read_settings(config, {})


def test_a_metric_that_is_called_like_a_key_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for optimization, found in (("baseline", None), ("bf16", 1.54), ("int4", 2.5)):
        for number in (1, 2):
            value = None if found is None else found + number
            settings = {"optimization": optimization, "round": number, "divergence": True}
            write_run(tmp_path, summary={"divergence": value}, **settings)
    runs = read_runs(tmp_path).runs
    assert list_differing([run.settings for run in runs]) == ["optimization"]
    assert [growing_keys(runs), variant_keys(runs)] == [[], ["optimization"]]
    assert (
        main(["compare", "optimization=baseline", "optimization=int4", "--results", str(tmp_path)])
        == 0
    )
    out = capsys.readouterr().out
    assert "They differ in optimization (baseline, int4)." in out
    assert '"optimization=baseline" "optimization=int4" model=llava' in out
    assert {run["divergence"] for run in runs} == {None, 2.54, 3.54, 3.5, 4.5}


def test_whether_logits_were_compared_is_a_key_and_no_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for compared in (True, False):
        write_run(tmp_path, summary={"divergence": 1.5 if compared else None}, divergence=compared)
    runs = read_runs(tmp_path).runs
    assert variant_keys(runs) == []
    assert [describe_setting(run).rpartition(", ")[2] for run in runs] == (
        [f"divergence={json.dumps(run.settings['divergence'])}" for run in runs]
    )
    names = [f"divergence={value}" for value in ("true", "false")]
    assert main(["compare", *names, "--results", str(tmp_path)]) == 0
    assert "They differ in divergence (true, false)." in capsys.readouterr().out


def test_a_choice_has_a_name_and_keys_of_its_own() -> None:
    found = settings_of(
        model={"name": "llava", "dtype": "bfloat16"},
        optimization={"bf16": {"kind": "dtype"}, "token_pruning": {"keep": 0.5}},
        frobnicate=3,
    )
    assert (found["model"], found["model.dtype"]) == ("llava", "bfloat16")
    assert found["optimization"] == "bf16+token_pruning"
    assert found["optimization.token_pruning.keep"] == 0.5
    assert found["frobnicate"] == 3


def test_what_measures_nothing_is_no_setting() -> None:
    found = settings_of(
        results_dir="r",
        share_device=True,
        dataset={"name": "coco", "folder": "/home/somebody"},
        profiler={"name": "quick", "repeats": 3},
    )
    assert not {"results_dir", "share_device", "dataset.folder", "profiler.repeats"} & found.keys()
    assert (found["dataset"], found["profiler"]) == ("coco", "quick")


@pytest.mark.parametrize("key", ["../../escaped", "a|b", "<b>", "a b", "", "1st"])
def test_a_text_that_is_no_name_is_no_key(key: str) -> None:
    assert key not in settings_of(**{key: 1})
    assert settings_of(model={"name": "llava", key: 1}).keys() == settings_of().keys()


def test_the_summary_counts_where_it_has_the_key() -> None:
    found = read_settings({"img_size": None, "num_samples": None}, {"img_size": 224})
    assert (found["img_size"], found["num_samples"]) == (224, None)


def test_a_key_inside_another_counts_among_equal_choices() -> None:
    plain = settings_of(optimization={"baseline": {}})
    half = settings_of(optimization={"token_pruning": {"keep": 0.5}})
    quarter = settings_of(optimization={"token_pruning": {"keep": 0.25}})
    assert list_differing([plain, half]) == ["optimization"]
    assert list_differing([half, quarter]) == ["optimization.token_pruning.keep"]
    assert list_differing([plain, half, quarter]) == [
        *("optimization", "optimization.token_pruning.keep"),
    ]
    assert list_differing([settings_of(round=1), settings_of(round=2)]) == []


def test_keys_stand_behind_the_ones_that_they_belong_to() -> None:
    keys = list_keys([settings_of(frobnicate=1), settings_of(model={"name": "m", "dtype": "f"})])
    assert keys[:2] == ["model", "model.dtype"]
    assert keys[-1] == "frobnicate"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for frobnicate in ("gently", "hard"):
        for img_size in (112, 224):
            write_run(tmp_path / "r", img_size=img_size, frobnicate=frobnicate)
    return tmp_path / "r"


@pytest.mark.usefixtures("without_figures")
def test_a_new_key_has_its_column_wherever_runs_differ_in_it(results: Path, tmp_path: Path) -> None:
    text = pages_of(results, tmp_path / "o")["llava"]
    all_runs = text.partition("## All runs")[2]
    assert "| image size (px) | frobnicate |" in all_runs
    assert "| 112 | gently |" in all_runs
    assert "112 px, batch size 1, 50 new tokens, frobnicate=" in text


def test_a_new_key_is_a_sweep_of_its_own(results: Path, tmp_path: Path) -> None:
    runs = read_runs(results).runs
    assert (growing_keys(runs), variant_keys(runs)) == (["img_size"], ["frobnicate"])
    assert [sweep.values for sweep in find_sweeps(runs, "img_size")] == [[112, 224]] * 2
    assert [sweep.values for sweep in find_sweeps(runs, "frobnicate")] == [["gently", "hard"]] * 2
    text = pages_of(results, tmp_path / "o")["llava"]
    assert "## Frobnicate" in text
    assert (tmp_path / "o" / "figures" / "llava_frobnicate.png").is_file()


@pytest.mark.usefixtures("without_figures")
def test_a_new_size_grows(tmp_path: Path) -> None:
    for threads in (1, 2, 4):
        write_run(tmp_path / "r", threads=threads, slower=1 / threads)
    assert growing_keys(read_runs(tmp_path / "r").runs) == ["threads"]
    text = pages_of(tmp_path / "r", tmp_path / "o")["llava"]
    assert "From threads=1 to threads=4 one batch takes" in text


def test_runs_are_selected_and_compared_by_a_new_key(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ("img_size=112,frobnicate=gently", "img_size=112,frobnicate=hard")
    assert main(["compare", *pair, "--results", str(results)]) == 0
    assert "They differ in frobnicate (gently, hard)." in capsys.readouterr().out
    assert main(["compare", "img_size=112", pair[0], "--results", str(results)]) == 2
    assert "narrow it down by frobnicate=gently, hard" in capsys.readouterr().err
    assert main(["compare", "frobnicate=wildly", pair[0], "--results", str(results)]) == 2
    assert "frobnicate is one of gently, hard" in capsys.readouterr().err
    assert main(["compare", "frobnicat=hard", pair[0], "--results", str(results)]) == 2
    assert "similar: frobnicate" in capsys.readouterr().err


def test_runs_that_differ_in_a_new_key_are_no_baselines_of_each_other(results: Path) -> None:
    write_run(results, optimization="bf16", frobnicate="wildly")
    write_run(results, optimization="int4", frobnicate="hard")
    runs = {run["optimization"]: run for run in read_runs(results).runs}
    assert runs["bf16"].baseline is None
    assert runs["int4"].baseline is not None


def test_the_html_page_filters_by_a_new_key(results: Path) -> None:
    found = read_runs(results)
    page = to_html(found)
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert "frobnicate" in data["filters"]
    (column,) = (own for own in data["columns"] if own["name"] == "frobnicate")
    assert column["kind"] == "text"
    assert column["cells"] == [run["frobnicate"] for run in newest(found.runs)]


@pytest.mark.usefixtures("without_figures")
def test_a_key_that_all_runs_share_is_not_shown(tmp_path: Path) -> None:
    for img_size in (112, 224):
        write_run(tmp_path / "r", img_size=img_size, frobnicate="hard")
    run = read_runs(tmp_path / "r").runs[0]
    assert run.distinct == ("img_size",)
    assert "frobnicate" not in describe_setting(run)
    assert "frobnicate" not in pages_of(tmp_path / "r", tmp_path / "o")["llava"]


# Engines


def test_the_engine_is_a_setting_and_the_baseline_runs_on_the_plain_one(tmp_path: Path) -> None:
    plain = write_run(tmp_path, engine={"name": "torch"}, summary={"latency_s": 0.4})
    write_run(tmp_path, engine={"name": "openvino"}, summary={"latency_s": 0.1})
    runs = {run["engine"]: run for run in read_runs(tmp_path).runs}
    assert runs.keys() == {"torch", "openvino"}
    assert runs["openvino"].baseline == plain.name
    assert runs["openvino"]["speedup"] == pytest.approx(4.0)
    assert runs["openvino"]["speedup_source"] == "separate runs"
    assert runs["openvino"]["speedup_ci_low"] is None
    assert variant_keys(list(runs.values())) == ["engine"]


def test_records_without_an_engine_are_of_the_plain_one(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, optimization="bf16")
    found = {run["optimization"]: run for run in read_runs(tmp_path).runs}
    assert found["bf16"]["speedup_source"] == "separate runs"
    assert found["bf16"]["engine"] is None
