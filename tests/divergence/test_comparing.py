"""Where the plain model's logits come from, and the rows of points that are compared with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from profiling import metrics
from profiling.divergence import measuring
from profiling.divergence.judging import ERROR, ROUNDING, find_errors, find_roundoff, judge
from profiling.divergence.measuring import compare_logits
from profiling.divergence.reference import (
    FOLDER,
    Reference,
    SampleLogits,
    difference,
    find,
    keep,
    root_mean_square,
)
from profiling.engines.endpoint.engine import EndpointEngine
from profiling.errors import Unsupported
from profiling.points.point import Point
from profiling.records import Reading
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import build, load, take_samples

FAMILY = "blip2_opt"
SAMPLES = take_samples(2)
SHORT = (f"model={FAMILY}", "max_new_tokens=4", "threads=1", "profiler.time_budget_s=600")


def point_of(folder: Path, *overrides: str) -> Point:
    return compose_point(*SHORT, f"results_dir={folder}", *overrides)


def compare(point: Point) -> dict[str, Reading]:
    plain = point.optimization == ("baseline",)
    engine = load(FAMILY) if plain else build(point)
    rows = compare_logits(point, SAMPLES, engine, lambda _: None)
    return {row.metric: row for row in rows if row.is_aggregate}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The plain models that were loaded besides."""
    found: list[str] = []
    right = measuring._load_plain

    def count(point: Point) -> Any:
        found.append(point.label())
        return right(point)

    monkeypatch.setattr(measuring, "_load_plain", count)
    yield found


def test_the_plain_model_s_own_logits_serve_later_points(
    tmp_path: Path, counted: list[str]
) -> None:
    rows = compare(point_of(tmp_path))
    assert {row.value for row in rows.values()} == {None}
    assert rows.keys() == {one.name for one in metrics.list_given(measuring.GIVER)}
    (kept,) = (tmp_path / FOLDER).iterdir()
    before = kept.read_bytes()
    rows = compare(point_of(tmp_path, "optimization=bf16"))
    assert counted == []
    assert kept.read_bytes() == before
    assert rows["divergence"].source == ROUNDING
    assert 1e-4 < (rows["relative_logit_error"].value or 0) < 0.1


@pytest.mark.slow
def test_without_one_the_plain_model_is_loaded_once(tmp_path: Path, counted: list[str]) -> None:
    first = compare(point_of(tmp_path, "optimization=bf16"))
    again = compare(point_of(tmp_path, "optimization=bf16"))
    assert len(counted) == 1
    # The engine's own roundings depend on where its memory begins; what was kept does not.
    assert first["reference_margin"] == again["reference_margin"]
    assert first["divergence"].value == pytest.approx(again["divergence"].value, rel=0.1)
    compare(point_of(tmp_path, "optimization=bf16", "img_size=84"))
    assert len(counted) == 2


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", slow_except([cut, changed], changed))
def test_a_damaged_file_is_made_again(
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    counted: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    compare(point_of(tmp_path, "optimization=bf16"))
    (kept,) = (tmp_path / FOLDER).iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    compare(point_of(tmp_path, "optimization=bf16"))
    assert len(counted) == 2
    assert kept.name in caplog.text
    assert find(kept) is not None


def test_a_plain_model_that_is_too_large_is_a_reason(tmp_path: Path) -> None:
    rows = compare(point_of(tmp_path, "optimization=bf16", "profiler.divergence.most_bytes=1000"))
    assert {row.value for row in rows.values()} == {None}
    assert "more than the 0.0 GB" in rows["divergence"].source


@pytest.mark.slow
def test_what_is_meant_to_differ_has_errors_and_no_verdict(tmp_path: Path) -> None:
    rows = compare(point_of(tmp_path, "optimization=text_only"))
    assert (rows["logit_error"].value or 0) > 0.1
    assert rows["divergence"].value is None
    assert "there is no picture" in rows["divergence"].source


def test_random_weights_of_another_dtype_are_other_weights(tmp_path: Path) -> None:
    point = point_of(tmp_path, "optimization=bf16", "weights=random")
    engine = build(point_of(tmp_path, "optimization=bf16"))
    rows = compare_logits(point, SAMPLES, engine, lambda _: None)
    assert all("draws other values in bfloat16" in row.source for row in rows)


def test_a_server_has_rows_with_a_reason(tmp_path: Path) -> None:
    server = object.__new__(EndpointEngine)
    rows = compare_logits(point_of(tmp_path), SAMPLES, server, lambda _: None)
    assert {row.source for row in rows} == {"this engine gives no logits"}
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_drafted_tokens_are_not_forced(tmp_path: Path) -> None:
    rows = compare(point_of(tmp_path, "optimization=prompt_lookup"))
    assert "tokens are drafted" in rows["divergence"].source


# Errors with known answers


def made_up(*, vocabulary: int = 50, tokens: int = 4, noise: float = 1e-3) -> Reference:
    rng = numpy.random.default_rng(0)
    logits = rng.normal(size=(tokens, vocabulary)).astype(numpy.float32)
    off = logits + noise * rng.normal(size=logits.shape).astype(numpy.float32)
    sample = SampleLogits(tokens=logits.argmax(1).tolist(), logits=logits, disturbed=off)
    return Reference.of(sample, longest_sum=64)


def test_errors_are_those_of_arithmetic() -> None:
    reference = made_up()
    logits = reference.values.copy()
    logits[2, 7] += 0.5
    errors = find_errors(reference, 0, logits, roundoff=1e-4)
    assert [one.error for one in errors] == pytest.approx([0, 0, 0.5, 0], abs=1e-6)
    spread = logits[2].std()
    assert errors[2].relative == pytest.approx(0.5 / 50**0.5 / reference.values[2].std(), rel=1e-5)
    assert spread > 0
    assert judge(errors[:2]) == ROUNDING
    assert judge(errors) == ERROR
    top = numpy.sort(reference.values, axis=1)
    assert [one.margin for one in errors] == pytest.approx((top[:, -1] - top[:, -2]).tolist())


def test_of_a_large_vocabulary_a_part_is_kept(tmp_path: Path) -> None:
    whole = numpy.random.default_rng(1).normal(size=(3, 20_000)).astype(numpy.float32)
    sample = SampleLogits(tokens=[1, 2, 3], logits=whole, disturbed=whole * 1.001)
    reference = Reference.of(sample, longest_sum=1)
    assert reference.values.shape == (3, 4096)
    keep(tmp_path / "a.safetensors", reference)
    again = find(tmp_path / "a.safetensors")
    assert again is not None
    off = whole + 0.01
    (first, *_) = find_errors(again, 0, off, roundoff=1.0)
    assert first.error == pytest.approx(0.01, rel=1e-2)
    assert first.relative == pytest.approx(0.01 / whole[0].std(), rel=1e-2)
    assert not first.differs
    # The likeliest token is kept, wherever it is.
    off[0, whole[0].argmax()] -= 100
    assert find_errors(again, 0, off, roundoff=1.0)[0].error == pytest.approx(100, rel=1e-3)


def test_another_vocabulary_is_not_compared() -> None:
    reference = made_up()
    with pytest.raises(Unsupported, match="logits of 49 tokens, not of 50"):
        find_errors(reference, 0, reference.values[:, 1:], roundoff=1.0)


def test_the_coarsest_precision_decides() -> None:
    assert find_roundoff(["float32"], 64) == 2**-21
    assert find_roundoff(["float32", "bfloat16"], 64) == 2**-8
    assert find_roundoff(["bfloat16", "int4"], 64) == 1 / 14
    assert find_roundoff(["float64"], 1) == 2**-24
    with pytest.raises(Unsupported, match="float7"):
        find_roundoff(["float7"], 1)


def test_infinite_logits_are_equal_or_as_far_as_can_be() -> None:
    mine = numpy.asarray([[1.0, -numpy.inf, numpy.nan, 2.0]], numpy.float32)
    other = numpy.asarray([[1.0, -numpy.inf, 0.0, -numpy.inf]], numpy.float32)
    found = difference(mine, other)
    assert found[0, :2].tolist() == [0, 0]
    assert (numpy.abs(found[0, 2:]) > 1e38).all()
    assert numpy.isfinite(root_mean_square(found)).all()
