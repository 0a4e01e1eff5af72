"""Sweeps of several blocks: what is united, what the command line leaves, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.points.blocks import unite
from profiling.points.configuration import read_config

if TYPE_CHECKING:
    from hydra_plugins.grouped_sweeper import GroupedSweeper

CONF = PROJECT / "conf"


def values(**keys: str) -> dict[str, list[str]]:
    return {key: [f"{key}={value}" for value in text.split()] for key, text in keys.items()}


BLOCKS = [values(size="1 2 4", side="224"), values(size="4", side="224 336")]


def test_a_point_of_two_blocks_is_there_once() -> None:
    jobs = unite({}, BLOCKS, {})
    assert jobs == [
        ["size=1", "side=224"],
        ["size=2", "side=224"],
        ["size=4", "side=224"],
        ["size=4", "side=336"],
    ]


def test_without_blocks_it_is_a_plain_sweep() -> None:
    jobs = unite(values(a="1 2"), [{}], values(b="3", a="5 6"))
    assert jobs == [["a=5", "b=3"], ["a=6", "b=3"]]


def test_what_is_typed_narrows_blocks_and_replaces_what_they_share() -> None:
    jobs = unite(values(model="x y"), BLOCKS, values(side="336", model="z", seed="7"))
    assert [set(job) for job in jobs] == [{"model=z", "size=4", "side=336", "seed=7"}]


def test_a_key_that_is_typed_with_force_is_the_same_key() -> None:
    typed = {"++side": ["++side=336"], "++model": ["++model=z"], "++new": ["++new=1"]}
    jobs = unite(values(model="x y"), BLOCKS, typed)
    assert [set(job) for job in jobs] == [{"model=z", "size=4", "side=336", "++new=1"}]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (values(size="3"), "size=3: allowed in this experiment is 1, 2, 4"),
        (values(size="1", side="336"), "side=336: this experiment has no point with it and size=1"),
    ],
)
def test_what_leaves_nothing_is_refused(typed: dict[str, list[str]], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        unite({}, BLOCKS, typed)
    assert str(refused.value) == line


# The sweeper


@pytest.fixture(scope="module")
def sweeper() -> Iterator[GroupedSweeper]:
    """As Hydra sets it up, but for the launcher."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # Only now: Hydra loads its plugins once more when it starts, and with them the base class.
        from hydra_plugins.grouped_sweeper import GroupedSweeper

        made = GroupedSweeper(max_batch_size=None, params=None, blocks=None)
        made.config = hydra.compose_config("config", [], run_mode=RunMode.MULTIRUN)
        made.hydra_context = SimpleNamespace(config_loader=hydra.config_loader)  # type: ignore[assignment]
        yield made


def compose_by_hydra(sweeper: GroupedSweeper, job: list[str]) -> dict[str, Any]:
    assert sweeper.hydra_context is not None and sweeper.config is not None
    return read_config(sweeper.hydra_context.config_loader.load_sweep_config(sweeper.config, job))


@pytest.mark.parametrize(
    "job",
    [
        [],
        pytest.param(["img_size=224", "model=llava", "batch_size=4"], marks=pytest.mark.slow),
        ["optimization=[fp16]", "profiler.time_budget_s=3", "profiler=quick"],
        pytest.param(
            ["profiler.repeats=7", "dataset.folder=/a b", "prompt_len=null"], marks=pytest.mark.slow
        ),
        ["experiment=image_size", "+more=1", "img_size=112"],
        ["model.checkpoint=a/b", "weights=pretrained", "results_dir='x,y'"],
    ],
)
def test_a_job_is_composed_as_by_hydra(sweeper: GroupedSweeper, job: list[str]) -> None:
    for _ in range(2):
        assert sweeper._compose(job) == compose_by_hydra(sweeper, job)


def test_an_unknown_key_is_refused_as_by_hydra(sweeper: GroupedSweeper) -> None:
    messages = []
    for compose in (sweeper._compose, lambda job: compose_by_hydra(sweeper, job)):
        with pytest.raises(ConfigCompositionException) as refused:
            compose(["img_sise=3"])
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


def test_choices_are_composed_once_however_many_values(
    sweeper: GroupedSweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweeper.hydra_context is not None
    loader = sweeper.hydra_context.config_loader
    seen: list[list[str]] = []
    load = loader.load_sweep_config
    monkeypatch.setattr(
        loader, "load_sweep_config", lambda config, job: seen.append(job) or load(config, job)
    )
    for number in range(1, 20):
        assert sweeper._compose(["model=fuyu", f"batch_size={number}"])["batch_size"] == number
    assert seen == [["model=fuyu"]]


def test_overrides_become_values(sweeper: GroupedSweeper) -> None:
    sweeper.params = {"model": "llava,fuyu"}
    sweeper._blocks = [{"batch_size": "1,2"}, {"batch_size": 2, "img_size": "range(1,3)"}]
    jobs = sweeper._expand(["model=fuyu", "optimization=[fp16,bf16],fp32", "batch_size=2"])
    assert len(jobs) == 6
    assert {frozenset(job) for job in jobs} == {
        frozenset({"model=fuyu", f"optimization={stack}", "batch_size=2", *side})
        for stack in ("[fp16,bf16]", "fp32")
        for side in ([], ["img_size=1"], ["img_size=2"])
    }


def test_a_sweep_of_far_too_many_points_is_refused_before_they_are_listed() -> None:
    values = {key: [f"{key}={number}" for number in range(1000)] for key in ("a", "b", "c", "d")}
    with pytest.raises(ConfigError, match=r"^a=1000 values: the sweep has 10{12} points"):
        unite({}, [{}], values)
    block = {"a": values["a"][:101], "b": values["b"][:100]}
    with pytest.raises(ConfigError, match="the sweep has 10100 points; allowed are at most 10000"):
        unite({}, [block], {})
