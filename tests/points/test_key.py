"""A key is declared once, with its field, and every place that needs to know of it does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from profiling.errors import ConfigError
from profiling.points.configuration import ROOT_KEYS, read_kind
from profiling.points.key import always, declarations, key, named, nest, root_keys
from profiling.points.options import CONF
from profiling.points.point import Point
from profiling.points.readers import whole
from profiling.records import COMPLETED
from profiling.runs.job import Job
from profiling.runs.recording import record
from tests.composing import compose_config, compose_point

FACTS: dict[str, Any] = {
    "machine": {},
    "versions": {},
    "samples_digest": "samples",
    "weights_digest": "weights",
}


@dataclass(frozen=True, kw_only=True)
class Deeper(Point):
    """A point with one more key."""

    depth: int = field(
        metadata=key("depth", read=whole(at_least=1), loads=always, label=named, in_summary=True)
    )


def deepen(**typed: Any) -> Deeper:
    return read_kind(Deeper, compose_config() | typed, device="cpu", cores=2)


def test_a_new_key_is_known_everywhere(tmp_path: Path) -> None:
    one, two = deepen(depth=1), deepen(depth=2)
    assert root_keys(Deeper) == (*ROOT_KEYS, "depth")
    assert one.as_config() == compose_point().as_config() | {"depth": 1}
    assert one.load_key != two.load_key
    assert one.fingerprint(**FACTS) != two.fingerprint(**FACTS)
    assert two.label() == f"{compose_point().label()} depth=2"
    assert two.as_columns()["depth"] == 2
    job = Job(point=two, samples=[], folder=tmp_path / "run", facts={"fingerprint": "f"})
    summary = record(
        job,
        status=COMPLETED,
        error=None,
        dtype=None,
        computes_in=None,
        readings=[],
        answers=[],
    )
    assert summary["depth"] == 2


def test_a_new_key_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"^depth=0: allowed is a whole number from 1$"):
        deepen(depth=0)
    with pytest.raises(ConfigError, match=r"^depth=null: the key is missing"):
        deepen()
    with pytest.raises(ConfigError, match=r"^depth=1: unknown key; allowed are .*batch_size"):
        read_kind(Point, compose_config() | {"depth": 1}, device="cpu", cores=2)


def test_a_key_that_measures_nothing_is_left_out_of_the_address() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Noted(Point):
        """A point with a remark."""

        note: str = field(
            compare=False, metadata=key("note", read=lambda composed, name: composed[name])
        )

    one, two = (
        read_kind(Noted, compose_config() | {"note": note}, device="cpu", cores=2)
        for note in ("a", "b")
    )
    assert one == two
    assert one.fingerprint(**FACTS) == two.fingerprint(**FACTS)
    assert (one.as_config()["note"], two.as_config()["note"]) == ("a", "b")


def test_a_key_has_one_line_in_the_configuration_and_one_field() -> None:
    typed = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    chosen = {
        group for default in typed.pop("defaults") if default != "_self_" for group in default
    }
    not_of_points = {"hydra", "experiment"}
    groups = {group for group in chosen if not group.startswith("override ")}
    assert (groups | set(typed)) - not_of_points == set(ROOT_KEYS)


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return {**value, "another": {}}
    return f"{value}, another"


NAMES = [one.name for one in fields(Point)]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_counts_is_in_the_address(name: str) -> None:
    """Checkpoints and sample folders count by their content, which is handed in as digests."""
    point = compose_point()
    changed = replace(point, **{name: another(getattr(point, name))})
    by_content = {"checkpoint", "revision", "dataset_folder"}
    not_measured = {"results_dir", "resume", "strict", "share_device", "tracker", "dry"}
    not_measured |= {"paired", "launches", "comparison"}
    stays = name in by_content | not_measured
    assert (changed.fingerprint(**FACTS) == point.fingerprint(**FACTS)) == stays
    assert (changed == point) == (name in not_measured)


def test_every_field_is_declared() -> None:
    assert [one.name for one, _ in declarations(Point)] == NAMES
    names = [declared.name for _, declared in declarations(Point)]
    assert len(set(names)) == len(names)


def test_dotted_names_become_mappings() -> None:
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


# Random weights are made in this dtype where no optimization sets another


def test_points_that_differ_by_the_dtype_of_random_weights_share_nothing() -> None:
    one, two = (
        compose_point("weights=random", f"model.dtype={dtype}") for dtype in ("float32", "bfloat16")
    )
    assert one.fingerprint(**FACTS) != two.fingerprint(**FACTS)
    assert one.load_key != two.load_key
