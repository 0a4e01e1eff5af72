"""What `profiling.load` returns: the table, choosing, and the questions that notebooks ask."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiling
from profiling.metrics import SUMMARY_COLUMNS
from profiling.report.draw.inline import InlineFigure
from tests.report.synthetic import write_comparison, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models at four sizes, and of one of them two variants, one measured in pairs."""
    made = tmp_path_factory.mktemp("results")
    for seed, model in enumerate(("llava", "qwen25vl")):
        for size in (112, 168, 224, 336):
            write_run(made, model=model, img_size=size, seed=seed)
    plain = write_run(made, batch_size=4)
    fast = write_run(made, batch_size=4, optimization="bf16")
    write_run(made, batch_size=4, optimization="int4", answers=["no"] * 8)
    write_comparison(plain, fast, ratio=1.5, reach=1.02, phases={"decode": 1.6, "vision": 1.0})
    (made / "torn").mkdir()
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> profiling.Results:
    return profiling.load(folder)


def test_the_table_has_every_column_and_the_comparison(results: profiling.Results) -> None:
    table = results.table
    assert list(table.columns) == list(SUMMARY_COLUMNS) and len(table) == len(results) == 11
    fast = table[table["optimization"] == "bf16"].iloc[0]
    assert (fast["speedup"], fast["speedup_source"]) == (pytest.approx(1.5), "paired")
    assert any("torn" in problem for problem in results.problems)
    assert "11 runs" in repr(results) and "torn" in repr(results)
    assert results._repr_markdown_().startswith("- 11 runs")


def test_runs_are_selected_by_values(results: profiling.Results) -> None:
    assert len(results.select(model="llava", img_size=[112, 336])) == 2
    assert len(results.select(optimization="bf16")) == 1
    assert len(results.select(prompt_len=None)) == 11
    assert len(results.select(model="fuyu")) == 0
    assert results["model=qwen25vl,img_size=224"]["img_size"] == 224


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda results: results.select(imgsize=112), "img_size"),
        (lambda results: results["model=lava"], "llava"),
        (lambda results: results["model=llava"], "img_size"),
        (lambda results: results.best(minimize="latency"), "latency_s"),
        (lambda results: results.best(), "minimize"),
        (lambda results: results.best(minimize="wer", maximize="wer"), "minimize"),
        (lambda results: results.best(minimize="wer", subject_to="wer=1"), "column<number"),
        (lambda results: results.growing("num_samples"), "num_samples"),
        (lambda results: results.growing("optimization"), "optimization"),
        (lambda results: results.variants("engine"), "engine"),
        (lambda results: results.front("energy_j"), "energy_j"),
        (lambda results: results.select(model="fuyu").front(), "latency_s"),
        (lambda results: results.select(model="fuyu").phases().plot_roofline(), "roofline"),
        (lambda results: profiling.load("no/such/folder"), "no/such/folder"),
        (lambda results: profiling.compare("model=lava", "seed=0", results), "llava"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(results: profiling.Results, ask, named) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as mistake:
        ask(results)
    assert named in str(mistake.value) and "\n" not in str(mistake.value)


def test_best_runs_meet_the_conditions_and_stand_in_order(results: profiling.Results) -> None:
    best = results.best(minimize="latency_s", subject_to=["wer<0.5", "batch_size<2"]).table
    assert len(best) and best["latency_s"].is_monotonic_increasing
    assert (best["wer"] < 0.5).all() and (best["batch_size"] == 1).all()
    most = results.best(maximize="latency_s").table
    assert most["latency_s"].is_monotonic_decreasing


def test_phases_add_up(results: profiling.Results) -> None:
    phases = results.reference().phases()
    assert [label.split(", ")[0] for label in phases.table.index] == ["llava", "qwen25vl"]
    assert phases.shares.sum(axis="columns").to_list() == pytest.approx([1.0, 1.0], abs=0.05)
    work = phases.work.sum(axis="columns")
    assert work.to_list() == pytest.approx([1.0, 1.0])
    longest = phases.longest
    assert (longest["phase"] == phases.shares.idxmax(axis="columns")).all()
    assert all("takes" in note for note in phases.notes)
    assert isinstance(phases.plot(), InlineFigure)


def test_a_size_is_followed_for_each_model(results: profiling.Results) -> None:
    growing = results.growing("img_size")
    table = growing.table()
    assert list(table.index) == ["llava", "qwen25vl"] and list(table) == [112, 168, 224, 336]
    run = results["model=llava,img_size=336"]
    assert table.loc["llava", 336] == run["latency_s"]
    ends = table[336] / table[112]
    assert growing.steepest == ends.idxmax()
    assert list(growing.laws(["flops"]).index) == list(table.index)
    assert len(growing.notes) == len(growing.crossings) == 2
    assert set(growing.answers()["sizes"]) == {"112 px to 336 px"}
    assert isinstance(growing.plot("flops"), InlineFigure)
    with pytest.raises(ValueError, match="qwen25vl"):
        growing.plot_phases("fuyu")


def test_variants_have_intervals_only_where_they_were_paired(results: profiling.Results) -> None:
    variants = results.variants()
    changes = variants.changes().reset_index().set_index("optimization")
    assert changes.loc["bf16", "change"] == pytest.approx(1 / 1.5 - 1)
    assert changes.loc["bf16", "source"] == "paired" and changes.loc["bf16", "called"]
    assert changes.loc["int4", "source"] == "separate runs" and not changes.loc["int4", "called"]
    assert changes.loc[["int4"], ["ci_low", "ci_high"]].isna().all(axis=None)
    assert variants.phases.loc["decode", "change"] == pytest.approx(1 / 1.6 - 1)
    assert not variants.phases.loc["vision", "called"]
    answers = variants.answers().reset_index().set_index("optimization")
    assert answers.loc["bf16", "agreement"] == 1 and answers.loc["int4", "agreement"] < 1
    assert len(variants.changed_answers(most=3)) == 3
    assert len(variants.table) == 3 and len(variants.controls) == 0


def test_nothing_beats_the_front(results: profiling.Results) -> None:
    front = results.front("latency_s", "wer")
    for run in front.runs:
        for other in front.group:
            at_least = other["latency_s"] <= run["latency_s"] and other["wer"] <= run["wer"]
            equal = (other["latency_s"], other["wer"]) == (run["latency_s"], run["wer"])
            assert equal or not at_least
    assert len(front.table) == len(front.runs) > 0
    assert len(front.notes) == max(1, len(front.runs) - 1)


def test_of_a_rate_or_an_accuracy_more_is_better(tmp_path: Path) -> None:
    for size, accuracy, rate in ((112, 0.5, 30.0), (224, 0.7, 20.0), (336, 0.6, 10.0)):
        summary = {"accuracy": accuracy, "tokens_per_s": rate, "latency_s": size / 100}
        write_run(tmp_path, img_size=size, summary=summary)
    for cost in ("latency_s", "tokens_per_s"):
        front = profiling.load(tmp_path).front(cost, "accuracy")
        assert [run["img_size"] for run in front.runs] == [112, 224]
        assert "accuracy from 0.500 to 0.700" in front.notes[0]
    assert "tokens/s from 30.0 to 20.0" in front.notes[0]


def test_a_comparison_is_the_time_of_a_over_that_of_b(results: profiling.Results) -> None:
    sides = ("optimization=baseline,batch_size=4", "optimization=bf16,batch_size=4")
    pair = profiling.compare(*sides, results)
    assert (pair.ratio, pair.source) == (pytest.approx(1.5), "paired")
    assert (pair.ci_low, pair.ci_high) == pytest.approx((1.5 / 1.02, 1.5 * 1.02))
    assert pair.is_different and pair.table.loc["decode", "ratio"] == pytest.approx(1.6)
    back = profiling.compare(*reversed(sides), results)
    assert back.ratio == pytest.approx(1 / 1.5) and back.is_different
    separate = profiling.compare(sides[0], "optimization=int4,batch_size=4", results)
    assert separate.is_different is None and separate.source == "separate runs"
    assert "no evidence of a difference" in repr(separate)


def test_a_folder_is_read_where_one_is_given(folder: Path, results: profiling.Results) -> None:
    sides = ("optimization=baseline,batch_size=4", "optimization=bf16,batch_size=4")
    assert profiling.compare(*sides, folder).ratio == profiling.compare(*sides, results).ratio


def test_explanations_remarks_and_the_page(
    folder: Path, results: profiling.Results, tmp_path: Path
) -> None:
    lines = results.explain("optimization=bf16")
    assert any("vision" in line for line in lines)
    assert any("tiny weights" in line for line in results.remarks())
    page = results.select(model="llava").write_html(tmp_path / "new" / "page.html")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!")
    # What the page tells to type compares runs of the folder that they are in.
    assert f"--results {folder}" in text
