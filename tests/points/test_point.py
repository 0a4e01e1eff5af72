"""A point's address: what is in it, what is not, and that presets and typed points share it."""

from __future__ import annotations

import pickle
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.errors import ConfigError
from profiling.points.address import MEASURING, canonical_json, digest_rooms
from profiling.points.configuration import read_point
from profiling.points.point import Point, order_for_loading
from profiling.points.readers import order_stack
from profiling.runs.session import forget_checked, plan_point
from tests.composing import CONF, PROJECT, compose_config, compose_point, make_dataset, write_index
from tests.marking import slow_except

MACHINE = {"cpu_model": "a cpu", "gpu_models": [], "operating_system": "an os", "gpu_driver": None}
VERSIONS = {"torch": "1", "transformers": "2"}


def address(point: Point, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "machine": MACHINE,
        "versions": VERSIONS,
        "samples_digest": "samples",
        "weights_digest": "weights",
    }
    return point.fingerprint(**(facts | changes))


def typed(*overrides: str) -> str:
    return address(compose_point(*overrides))


def planned(config: dict[str, Any], results: Path) -> str:
    return plan_point(config | {"results_dir": str(results)}).fingerprint


# What is left out of the address


@pytest.mark.parametrize(
    "override",
    ["results_dir=elsewhere", "resume=false", "strict=true", "dry=true", "hydra.job.name=other"],
)
def test_keys_that_do_not_change_the_work_leave_the_address(override: str) -> None:
    assert typed(override) == typed()


@pytest.mark.parametrize(
    "override",
    [
        "model=llava",
        "weights=random",
        "dataset=coco",
        "optimization=bf16",
        "img_size=224",
        "prompt_len=7",
        "batch_size=2",
        "max_new_tokens=51",
        "num_samples=3",
        "seed=1",
        "round=2",
        "threads=2",
        "preload=false",
        "profiler=quick",
        "profiler.repeats=3",
        "profiler.time_budget_s=59",
        "profiler.probes.latency.minimum=11",
        "dataset.accuracy=null",
    ],
)
def test_keys_that_change_the_work_change_the_address(override: str) -> None:
    assert typed(override) != typed()


def test_what_surrounds_the_work_is_in_the_address() -> None:
    point = compose_point()
    plain = address(point)
    assert address(point, machine=MACHINE | {"cpu_model": "another"}) != plain
    assert address(point, versions=VERSIONS | {"torch": "1.1"}) != plain
    assert address(point, samples_digest="others") != plain
    assert address(point, weights_digest="others") != plain
    assert address(point, machine=dict(reversed(MACHINE.items()))) == plain


def test_null_and_auto_are_resolved_first(tmp_path: Path) -> None:
    assert typed("img_size=112") == typed() == typed("threads=1")
    assert typed("model=fuyu", "img_size=240") == typed("model=fuyu")
    assert typed("weights=random", "img_size=448") == typed("weights=random")
    config = compose_config("profiler=quick")
    plain = planned(config, tmp_path)
    assert planned(config | {"device": "cpu", "num_samples": 8}, tmp_path) == plain
    assert planned(config | {"num_samples": 7}, tmp_path) != plain


def test_the_order_of_keys_does_not_matter() -> None:
    overrides = ["model=llava", "img_size=224", "batch_size=4", "optimization=bf16", "seed=3"]
    first = typed(*overrides)
    for seed in range(4):
        random.Random(seed).shuffle(overrides)
        assert typed(*overrides) == first


def test_a_stack_is_brought_into_its_canonical_order() -> None:
    assert typed("optimization=[bf16,baseline]") == typed("optimization=[baseline,bf16]")
    assert typed("optimization=[bf16,baseline]") == typed("optimization=bf16")
    assert typed("optimization=[bf16]") == typed("optimization=bf16")
    assert typed("optimization=[bf16,bf16]") == typed("optimization=bf16")
    assert compose_point("optimization=[bf16,baseline]").optimization == ("bf16",)
    assert typed("optimization=baseline") != typed("optimization=bf16")


@settings(deadline=None)
@given(order=st.permutations(["fp16", "second", "first", "baseline"]))
def test_any_order_of_a_stack_is_one_stack(order: list[str]) -> None:
    """With optimizations that do not exist yet: order first, then name."""
    groups = {
        "baseline": {"kind": "baseline", "order": 0},
        "fp16": {"kind": "dtype", "order": 0},
        "first": {"kind": "a", "order": 3},
        "second": {"kind": "b", "order": 7},
    }
    stack = order_stack("optimization", {name: groups[name] for name in order})
    assert list(stack) == ["fp16", "first", "second"]


PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("preset", slow_except(PRESETS, "engines", "image_size", "token_reduction"))
def test_a_preset_has_the_addresses_of_points_typed_by_hand(preset: str) -> None:
    text = (CONF / "experiment" / f"{preset}.yaml").read_text(encoding="utf-8")
    sweeper = yaml.safe_load(text)["hydra"]["sweeper"]
    blocks = [sweeper["params"], *sweeper.get("blocks", {}).values()]
    swept = {
        (*_list_chosen(block), f"{key}={value}")
        for block in blocks
        for key, values in block.items()
        for value in re.findall(r"\[[^\]]*\]|[^,]+", str(values))[-1:]
    }
    for overrides in sorted(swept):
        assert typed(f"experiment={preset}", *overrides) == typed(*overrides)


def _list_chosen(block: Mapping[str, Any]) -> list[str]:
    """The last option of each group that a dotted key of the block is a setting of.

    With one, what all points of the block have: a setting may depend on it.
    """
    groups = {key.split(".")[0] for key in block if "." in key}
    if not groups:
        return []
    fixed = {key: value for key, value in block.items() if "," not in str(value)}
    chosen = {group: str(block[group]).split(",")[-1] for group in groups}
    return [f"{key}={value}" for key, value in sorted({**fixed, **chosen}.items())]


def test_a_key_order_of_a_mapping_never_reaches_the_address() -> None:
    config = compose_config()

    def turn(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turn(inner) for key, inner in reversed(value.items())}
        return value

    turned = read_point(turn(config), device="cpu", cores=2)
    assert address(turned) == address(compose_point())


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_canonical_json_is_plain_and_stable(value: Any) -> None:
    text = canonical_json(value)
    assert text == canonical_json(value) and text.isascii()
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


# What is in the address


def test_samples_count_by_what_they_hold(tmp_path: Path) -> None:
    entries = make_dataset(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    config = compose_config()

    def at(name: str) -> str:
        dataset = config["dataset"] | {"folder": str(tmp_path / name)}
        return planned(config | {"dataset": dataset}, tmp_path / "results")

    assert at("here") == at("there")
    entries[0]["request"] = "something else?"
    shutil.copytree(tmp_path / "here", tmp_path / "changed")
    write_index(tmp_path / "changed", entries)
    assert at("changed") != at("here")


def test_a_checkpoint_counts_by_what_is_in_it(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "checkpoints" / "tiny" / "qwen25vl", tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    changed = tmp_path / "two" / "generation_config.json"

    def at(name: str) -> str:
        config = compose_config("weights=pretrained", "num_samples=1")
        config["model"]["checkpoint"] = str(tmp_path / name)
        return planned(config, tmp_path / "results")

    first = at("one")
    assert at("two") == first
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    forget_checked()
    assert at("two") != first


SHIPPED = "66285546d2b821cf421d4f5eb2576359d3770cd3"


@pytest.mark.parametrize(
    ("typed", "revision"),
    [
        ((), SHIPPED),
        (("model.checkpoint=owner/name",), None),
        (("model.checkpoint=owner/name", "model.revision=main"), "main"),
        (("model.revision=main",), "main"),
        ((f"model.checkpoint={PROJECT}/checkpoints/tiny/qwen25vl",), None),
    ],
)
def test_a_revision_belongs_to_its_checkpoint(typed: tuple[str, ...], revision: str | None) -> None:
    assert compose_point("weights=pretrained", *typed).revision == revision


def test_a_folder_has_no_revision() -> None:
    folder = f"model.checkpoint={PROJECT}/checkpoints/tiny/qwen25vl"
    with pytest.raises(ConfigError, match=r"^model\.revision=main: allowed with a hub id"):
        compose_point("weights=pretrained", folder, "model.revision=main")


ADDRESS_OF_A_PROJECT = """
from tests.composing import compose_config
from profiling.runs.session import plan_point
config = compose_config("num_samples=2") | {"results_dir": %r}
print(plan_point(config).fingerprint)
"""


def address_of_project(root: Path) -> str:
    script = ADDRESS_OF_A_PROJECT % str(root / "results")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy_project(root: Path) -> None:
    for name in ("profiling", "conf", "hydra_plugins"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    shutil.copy(PROJECT / "tests" / "composing.py", root / "tests")
    for name in ("datasets", "checkpoints"):
        (root / name).symlink_to(PROJECT / name)


@pytest.mark.slow
def test_the_address_of_a_project_that_was_moved_or_changed(tmp_path: Path) -> None:
    for name in ("one", "another place"):
        (tmp_path / name).mkdir()
        copy_project(tmp_path / name)
    one, other = tmp_path / "one", tmp_path / "another place"
    plain = address_of_project(one)
    (other / "profiling" / "report" / "added.py").write_text("x = 1\n", encoding="utf-8")
    (other / "profiling" / "report" / "say" / "marks.py").write_text("", encoding="utf-8")
    (other / "profiling" / "notes.txt").write_text("no code\n", encoding="utf-8")
    edit(other / "profiling" / "runs" / "progress.py")
    assert address_of_project(other) == plain
    edit(other / "profiling" / "probes" / "latency.py")
    assert address_of_project(other) != plain


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, which tests edit and leave as it was."""
    root = tmp_path_factory.mktemp("package") / "profiling"
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PROJECT / "profiling", root, ignore=ignored))


MEASURES = (
    "engines/workload.py",
    "engines/transformers/hooks.py",
    "engines/transformers/optimizations/bf16.py",
    "models/loading.py",
    "parts/cutting.py",
    "graphs/export.py",
    "samples/prompt_length.py",
    "machine/noise.py",
    "probes/energy.py",
    "quality/wer.py",
    "costs/twin.py",
    "records.py",
    "runs/experiment.py",
    "runs/child.py",
    "runs/worker.py",
    "runs/recording.py",
)
MEASURES_NOTHING = (
    "__init__.py",
    "arguments.py",
    "cost.py",
    "errors.py",
    "fetch.py",
    "merge.py",
    "partition/modes.py",
    "points/point.py",
    "points/overrides.py",
    "report/read/runs.py",
    "runs/forecast.py",
    "runs/keeper.py",
    "runs/launching.py",
    "runs/paired/turns.py",
    "runs/announcing.py",
    "runs/progress.py",
    "runs/session.py",
    "runs/sweep.py",
    "selfcheck/flops.py",
    "trackers/mlflow.py",
    "versus.py",
)


@pytest.mark.parametrize("name", (*MEASURES, *MEASURES_NOTHING))
def test_the_code_that_measures_is_in_the_address_and_no_other(name: str, package: Path) -> None:
    plain, text = digest_rooms(package), (package / name).read_text(encoding="utf-8")
    edit(package / name)
    assert (digest_rooms(package) != plain) == (name in MEASURES)
    (package / name).write_text(text, encoding="utf-8")


def test_the_name_of_a_module_that_measures_is_in_the_address(package: Path) -> None:
    plain = digest_rooms(package)
    (package / "probes" / "added.py").touch()
    assert digest_rooms(package) != plain
    (package / "probes" / "added.py").rename(package / "probes" / "renamed.py")
    renamed = digest_rooms(package)
    (package / "probes" / "renamed.py").unlink()
    assert renamed != plain == digest_rooms(package)


def test_every_room_either_measures_or_does_not() -> None:
    rooms = {
        path.stem
        for path in (PROJECT / "profiling").iterdir()
        if path.name[0] not in "._" and path.suffix != ".typed"
    }
    others = {"api", "arguments", "captures", "capture", "cost", "errors", "fetch", "merge"}
    others |= {"partition", "points", "report", "selfcheck", "trackers", "verify", "versus"}
    assert rooms <= MEASURING | others
    assert not MEASURING & others


# Points themselves


def test_a_point_is_handed_to_another_process_unchanged() -> None:
    point = compose_point("optimization=bf16", "prompt_len=7")
    copied = pickle.loads(pickle.dumps(point))
    assert copied == point and address(copied) == address(point)


def test_a_configuration_error_is_handed_on_unchanged() -> None:
    error = ConfigError("img_size", 0, "allowed is more")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "img_size=0: allowed is more"


@settings(deadline=None)
@given(key=st.text(), value=st.text(), allowed=st.text())
def test_a_configuration_error_is_one_printable_line(key: str, value: str, allowed: str) -> None:
    line = str(ConfigError(key, value, allowed))
    assert "\n" not in line and line.isprintable()


def test_a_configuration_shows_values_as_they_are_typed() -> None:
    assert str(ConfigError("a", None, "b")) == "a=null: b"
    assert str(ConfigError("a", True, "b")) == "a=true: b"
    assert str(ConfigError("a", 1, "b")) == "a=1: b"


@pytest.mark.parametrize("seed", range(5))
def test_points_of_one_model_stand_together(seed: int) -> None:
    points = [
        compose_point(f"model={model}", f"optimization={name}", f"img_size={side}")
        for side in (112, 224)
        for name in ("baseline", "bf16")
        for model in ("llava", "fuyu")
    ]
    random.Random(seed).shuffle(points)
    order = order_for_loading(points)
    assert sorted(order) == list(range(8))
    keys = [points[i].load_key for i in order]
    changes = sum(key != before for before, key in pairwise(keys))
    assert changes == 3  # four loads, whatever the order typed


def test_rounds_come_one_after_the_other() -> None:
    points = [
        compose_point(f"round={number}", f"model={model}")
        for model in ("llava", "fuyu")
        for number in (1, 2)
    ]
    assert [points[i].round for i in order_for_loading(points)] == [1, 1, 2, 2]


def test_what_a_loaded_model_can_be_kept_for() -> None:
    plain = compose_point().load_key
    for kept in ("img_size=224", "batch_size=4", "prompt_len=5", "seed=1", "dataset=coco"):
        assert compose_point(kept).load_key == plain
    for loaded in ("model=llava", "weights=random", "optimization=bf16", "threads=2"):
        assert compose_point(loaded).load_key != plain
    assert (
        compose_point("weights=random", "seed=1").load_key
        != compose_point("weights=random").load_key
    )
