"""Every yaml under conf/ composes into a point, and what it names can be built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from profiling.errors import ConfigError
from profiling.points import configuration
from profiling.points.options import list_families
from profiling.runtimes.offered import COMPUTED, STORED
from tests.composing import CONF, compose_config, compose_point


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


GROUPS = ("model", "weights", "engine", "dataset", "optimization", "profiler", "comparison")
# Presets, and the settings of other commands.
OTHERS = {"config.yaml", "experiment", "fetch", "hydra", "selfcheck", "tracker"}
# What an option asks the user for.
GIVEN = {
    "endpoint": ("engine.url=http://localhost:8000/v1", "engine.model=served"),
    "auto": ("weights=pretrained", "model.checkpoint=owner/name"),
}
OPTIONS = [(group, option) for group in GROUPS for option in options(group)]


def test_the_defaults_are_those_that_users_rely_on() -> None:
    point = compose_point()
    assert (point.model, point.weights, point.dataset) == ("qwen25vl", "tiny", "textvqa")
    assert (point.optimization, point.profiler["name"]) == (("baseline",), "full")
    assert (point.batch_size, point.max_new_tokens, point.seed) == (1, 50, 0)
    assert (point.prompt_len, point.num_samples) == (None, None)
    assert (point.preload, point.resume, point.results_dir) == (True, True, "results")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_makes_a_point(group: str, option: str) -> None:
    point = compose_point(f"{group}={option}", *GIVEN.get(option, ()))
    chosen = {
        "model": point.model,
        "weights": point.weights,
        "engine": point.engine,
        "dataset": point.dataset,
        "optimization": "+".join(point.optimization),
        "profiler": point.profiler["name"],
        "comparison": point.comparison["name"],
    }
    assert chosen[group] == option


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_options(group: str) -> None:
    assert options(group)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=llava", "img_size=224", "results_dir='a, b'", "profiler.time_budget_s=3"),
        ("model.checkpoint=owner/name", "optimization=[fp16,compile]", "profiler=quick"),
        ("experiment=image_size", "engine=onnxruntime", "num_samples=null"),
    ],
)
def test_tests_compose_as_the_command_line_does(overrides: tuple[str, ...]) -> None:
    GlobalHydra.instance().clear()
    assert compose_config(*overrides) == configuration.compose_config(overrides)


def test_every_yaml_belongs_to_a_tested_group() -> None:
    groups = {path.relative_to(CONF).parts[0] for path in CONF.rglob("*.yaml")}
    assert groups == {*OTHERS, *GROUPS}


@pytest.mark.parametrize("model", list_families())
@pytest.mark.parametrize("weights", options("weights"))
def test_every_model_has_a_native_size_for_every_weights(model: str, weights: str) -> None:
    point = compose_point(f"model={model}", f"weights={weights}")
    assert point.img_size is not None
    assert point.img_size > 0
    assert (point.checkpoint is None) == (weights != "pretrained")


def test_a_model_without_a_checkpoint_of_its_own_leaves_sizes_to_the_processor() -> None:
    (model,) = set(options("model")) - set(list_families())
    point = compose_point(f"model={model}", *GIVEN[model])
    assert point.img_size is None
    assert compose_point(f"model={model}", *GIVEN[model], "img_size=224").img_size == 224
    assert "img_size" not in point.label()


def test_a_record_names_a_prompt_only_where_one_was_given() -> None:
    given = ("model=auto", *GIVEN["auto"])
    assert "prompt" not in compose_point().as_config()["model"]
    assert "prompt" not in compose_point(*given).as_config()["model"]
    asked = compose_point(*given, 'model.prompt="say {question}"')
    assert asked.as_config()["model"]["prompt"] == "say {question}"


@pytest.mark.parametrize("profiler", options("profiler"))
@pytest.mark.parametrize(
    ("key", "value", "least"),
    [
        ("probes.memory.passes", 0, 1),
        ("probes.latency.warmup_window", 0, 1),
        ("probes.latency.maximum", 0, 1),
        ("probes.energy.windows", 1, 2),
        ("roofline.most_batches", 0, 1),
        ("divergence.tokens", 0, 1),
    ],
)
def test_counts_that_measure_nothing_are_refused(
    profiler: str, key: str, value: int, least: int
) -> None:
    with pytest.raises(ConfigError, match=f"profiler.{key}={value}: .* from {least}$"):
        compose_point(f"profiler={profiler}", f"profiler.{key}={value}")
    point = compose_point(f"profiler={profiler}", "profiler.divergence.most_bytes=0")
    assert point.profiler["divergence"]["most_bytes"] == 0


@pytest.mark.parametrize("profiler", options("profiler"))
def test_the_probes_that_a_profiler_names_can_be_built(profiler: str) -> None:
    settings = compose_config(f"profiler={profiler}")["profiler"]["probes"]
    assert settings
    for name, given in settings.items():
        probe = import_module(f"profiling.probes.{name}").PROBE(**given)
        assert callable(probe.measure)


def read_hydra(experiment: str) -> DictConfig:
    """What a preset asks of Hydra."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    found = composed.hydra
    assert isinstance(found, DictConfig)
    return found


def list_blocks(experiment: str) -> Iterator[dict[str, str]]:
    """What a preset sweeps: keys with their values, in one block or in several."""
    hydra = read_hydra(experiment)
    assert hydra.mode == RunMode.MULTIRUN
    sweeper = hydra.sweeper
    shared = {str(key): str(values) for key, values in sweeper.params.items()}
    for block in (sweeper.get("blocks") or {"all": {}}).values():
        yield shared | {str(key): str(values) for key, values in block.items()}


def split_values(values: str) -> list[str]:
    """At the commas between values, and not at those inside of a stack."""
    return re.split(r",(?![^\[]*\])", values)


def compose_values(experiment: str, *, every_option: bool) -> None:
    """Every value of each key beside the first ones of the others."""
    for block in list_blocks(experiment):
        assert block
        first = {key: split_values(values)[0] for key, values in block.items()}
        values = {key: split_values(block[key]) for key in block}
        if not every_option:
            # Hydra takes tenths of a second to compose another file.
            values = {key: own[-1:] if key in GROUPS else own for key, own in values.items()}
        alternatives = [(key, value) for key, own in values.items() for value in own]
        # The first value of every key makes the same point.
        chosen = dict.fromkeys(tuple((first | {key: value}).items()) for key, value in alternatives)
        for pairs in chosen:
            compose_point(*(f"{name}={value}" for name, value in pairs))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_values_of_an_experiment_make_points(experiment: str) -> None:
    compose_values(experiment, every_option=False)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_option_of_an_experiment_makes_a_point(experiment: str) -> None:
    compose_values(experiment, every_option=True)


@pytest.mark.parametrize("tracker", options("tracker"))
def test_a_tracker_makes_no_other_point(tracker: str) -> None:
    assert compose_point(f"tracker={tracker}") == compose_point()


def list_documented(group: str) -> set[str]:
    """The options of a group that the page about keys names."""
    page = (CONF.parent / "docs" / "keys.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{group}` |"))
    return {*re.findall(r"`([a-z0-9_]+)`", row)} & {*options(group)}


@pytest.mark.parametrize("group", ["model", "engine", "optimization"])
def test_the_page_about_keys_names_options(group: str) -> None:
    assert len(list_documented(group)) > 5


def test_experiments_cover_every_option_that_is_documented() -> None:
    """An option that somebody adds for himself is not in the presets of the project."""
    # A twin without pictures answers another question; a preset of its own compares it.
    left_out = {"text_only"}
    for experiment, group in (("models", "model"), ("optimizations", "optimization")):
        swept = read_hydra(experiment).sweeper.params[group].split(",")
        covered = list_documented(group) - left_out
        if group == "model":
            covered &= {*list_families()}
        assert sorted(swept) == sorted(covered)


@pytest.mark.parametrize(
    "experiment", ["optimizations", "quantization", "devices", "engines", "engines_mid"]
)
def test_what_compares_variants_measures_in_pairs(experiment: str) -> None:
    assert compose_config(f"experiment={experiment}")["paired"] is True


def test_the_preset_of_engines_has_all_that_run_here() -> None:
    # A server has to be named.
    (_, blocks) = (read_hydra("engines").sweeper[part] for part in ("params", "blocks"))
    assert sorted(blocks.engines.engine.split(",")) == sorted(
        list_documented("engine") - {"endpoint"}
    )


@pytest.mark.parametrize("experiment", ["engines", "engines_mid"])
def test_the_presets_of_engines_have_the_precisions_that_only_an_engine_has(
    experiment: str,
) -> None:
    blocks = read_hydra(experiment).sweeper.blocks
    quantized = [name for name, kinds in STORED.items() if "int8" in kinds]
    assert sorted(blocks.precisions.engine.split(",")) == sorted(quantized)
    assert blocks.arithmetic["engine.compute"] in COMPUTED
    assert "compute" in compose_point(f"engine={blocks.arithmetic.engine}").engine_settings


def test_the_named_experiments_are_there() -> None:
    named = {"image_size", "prompt_length", "batch_size", "optimizations", "models"}
    named |= {"quantization", "devices", "engines"}
    assert named <= set(options("experiment"))
