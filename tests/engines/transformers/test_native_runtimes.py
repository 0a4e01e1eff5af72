"""JAX, Paddle and MindSpore by the operator table: the same tokens, each shape compiled once."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from profiling.engines.transformers.engine import check_stack
from profiling.errors import ConfigError, Unsupported
from profiling.points.options import list_families
from profiling.runtimes import runtime
from profiling.runtimes.runtime import RuntimeAbsent, find_runtime
from tests.composing import compose_point
from tests.engines.transformers.table_runs import run_engine

FAMILIES = list_families()
# The samples of each dataset that an engine answers, one by one and in fours.
ENGINES = {"jax": 40, "paddle": 12, "mindspore": 12}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_package_is_unsupported(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda _: None)
    point = compose_point("model=fuyu", f"engine={engine}")
    line = rf"^{engine} is not installed: pip install -r requirements-{engine}.txt$"
    with pytest.raises(Unsupported, match=line):
        check_stack(point)


@pytest.mark.parametrize("engine", ENGINES)
def test_integers_in_graphs_are_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.precision=int4: allowed is .*bfloat16"):
        compose_point("model=fuyu", f"engine={engine}", "engine.precision=int4")


@pytest.mark.parametrize("name", ["prompt_multiple", "cache_multiple"])
@pytest.mark.parametrize("value", ["0", "many"])
def test_buckets_are_whole_numbers(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.{name}={value}"):
        compose_point("model=fuyu", "engine=jax", f"engine.{name}={value}")


@pytest.mark.parametrize(("one", "other"), [("paddle", "mindspore"), ("mindspore", "paddle")])
def test_two_frameworks_never_share_a_process(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, one, ModuleType(one))
    line = f"^{other} cannot run in a process that has imported {one}$"
    with pytest.raises(RuntimeAbsent, match=line):
        find_runtime(other)


def need(engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_that_of_torch(engine: str, family: str) -> None:
    need(engine)
    found = run_engine(engine, family, ENGINES[engine])
    assert len(found["rows"]) == 3 * 2 * ENGINES[engine]
    assert [row for row in found["rows"] if row["torch"] != row["engine"]] == []
    assert found["others"] == []
    if found["readings"]:
        readings: dict[str, Any] = found["readings"]
        assert readings["num_compilations"] == found["shapes"]


@pytest.mark.slow
def test_a_second_process_compiles_nothing_new() -> None:
    need("jax")
    first, second = (run_engine("jax", "fuyu", 4) for _ in range(2))
    assert first["rows"] == second["rows"]
    assert second["readings"]["num_compilations"] == second["shapes"]
    assert second["readings"]["num_kept_compilations"] >= second["shapes"]


@pytest.mark.slow
def test_a_cache_that_is_full_goes_on_in_the_next_bucket() -> None:
    need("jax")
    found = run_engine("jax", "llava", 4, "engine.cache_multiple=8", "engine.prompt_multiple=4")
    assert all(row["torch"] == row["engine"] for row in found["rows"])
    assert found["readings"]["num_compilations"] == found["shapes"]


@pytest.mark.slow
def test_an_operator_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    need("jax")
    from profiling.engines.transformers.engine import TransformersEngine
    from profiling.runtimes.native.operator_table import OPERATORS

    point = compose_point("model=fuyu", "engine=jax", "optimization=fp32")
    TransformersEngine.prepare_process(point)
    importlib.import_module("profiling.runtimes.native.native_graph")
    monkeypatch.delitem(OPERATORS, "Softmax")
    line = r"^jax cannot run decoder\.onnx: the operator table lacks Softmax$"
    with pytest.raises(Unsupported, match=line):
        TransformersEngine.load(point)
