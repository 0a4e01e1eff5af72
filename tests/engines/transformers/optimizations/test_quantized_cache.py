"""Quantized keys and values: fewer bytes as stored, nearly the same likelihoods."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import ConfigError, Unsupported
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask_unevenly, load, make_workload, take_samples

DECODERS = [family for family in FAMILIES if family != "blip2_t5"]
SIDE = 120


def cache_bytes(engine: TransformersEngine) -> dict[str, float | None]:
    workload = make_workload(engine, batch_size=2, max_new_tokens=4, count=2)
    return {row.metric: row.value for row in engine.memory_readings(workload)}


def nll(engine: TransformersEngine) -> float:
    """Mean over a few samples."""
    samples = take_samples(4)
    spent = []
    for sample in samples:
        inputs = engine.place(engine.encode(engine.prepare([sample], None), SIDE))
        spent += engine.reference_nlls(inputs, sample.references[:1], 6)
    return sum(one for one in spent if one is not None) / len(spent)


@pytest.mark.parametrize("family", slow_except(DECODERS, "llava"))
def test_eight_bits_take_a_quarter_of_the_bytes(family: str) -> None:
    plain, quantized = load(family), load(family, "optimization=quantized_cache")
    before, after = cache_bytes(plain), cache_bytes(quantized)
    for metric in ("kv_cache_bytes", "kv_cache_bytes_per_token"):
        whole, less = before[metric], after[metric]
        assert whole is not None and less is not None
        # The scales are a few bytes beside.
        assert less == pytest.approx(whole / 4, rel=0.01)
    assert nll(quantized) == pytest.approx(nll(plain), abs=0.05)
    rows = answer(quantized, ask_unevenly(quantized, 3), SIDE, 5)
    assert [len(row) for row in rows] == [5, 5, 5]


def test_moved_bytes_are_those_of_the_quantized_cache() -> None:
    plain, quantized = load("llava"), load("llava", "optimization=quantized_cache")
    moved = []
    for engine in (plain, quantized):
        workload = make_workload(engine, batch_size=1, max_new_tokens=9, count=1)
        costs = engine.costs(workload.encode(0), length=9, cross_check=False)
        without = engine.costs(workload.encode(0), length=2, cross_check=False)
        decode, one = costs.moved_bytes["decode"], without.moved_bytes["decode"]
        assert decode is not None and one is not None
        moved.append(decode - one * 8)
    # What grows with the steps is the cache alone, in a quarter of the bytes.
    assert moved[1] == pytest.approx(moved[0] / 4, rel=1e-6)


@pytest.mark.parametrize(("backend", "bits"), [("quanto", 4), ("hqq", 4), ("hqq", 2)])
def test_fewer_bits_take_fewer_bytes(backend: str, bits: int) -> None:
    if find_spec("optimum" if backend == "quanto" else backend) is None:
        pytest.skip(f"{backend} is not installed: requirements-cache.txt")
    overrides = [
        "optimization=quantized_cache",
        f"optimization.quantized_cache.backend={backend}",
        f"optimization.quantized_cache.bits={bits}",
    ]
    before, after = cache_bytes(load("llava")), cache_bytes(load("llava", *overrides))
    whole, less = before["kv_cache_bytes"], after["kv_cache_bytes"]
    assert whole is not None and less is not None
    # Beside the bits, each group of 64 has a scale and a zero in single precision, which is a bit
    # for each value, and the newest tokens are not quantized.
    assert bits / 32 < less / whole < (bits + 1) / 32 + 0.08
    # What is counted before loading is what is stored.
    asked = ("batch_size=2", "max_new_tokens=4")
    counted = TransformersEngine.count(compose_point("model=llava", *overrides, *asked))
    assert counted.full_cache_bytes == less


def test_counted_caches_have_scales_and_newest_tokens() -> None:
    place, new = "optimization.quantized_cache", 11
    settings = [f"{place}.{one}" for one in ("backend=hqq", "bits=4", "group=32", "residual=4")]
    asked = ("model=llava", "batch_size=2", f"max_new_tokens={new}")
    plain, few = (
        TransformersEngine.count(compose_point(*asked, *more))
        for more in ((), ("optimization=quantized_cache", *settings))
    )
    values = plain.cache_bytes / 4  # of a token in float32
    # Of ten tokens behind the prompt, the last two are not quantized.
    quantized = plain.prompt_tokens + 8
    # Four bits, and for 32 values a scale and a zero of four bytes.
    assert few.full_cache_bytes == 2 * values * (quantized * (4 / 8 + 8 / 32) + 2 * 4)
    assert few.cache_bytes == values * (4 / 8 + 8 / 32)


@pytest.mark.parametrize(
    ("model", "overrides", "reason"),
    [
        ("blip2_t5", ("optimization=quantized_cache",), "encoder-decoder"),
        ("llava", ("optimization=[quantized_cache,compile]",), "cache of fixed length"),
        ("llava", ("optimization=[offloaded_cache,compile]",), "cache of fixed length"),
        ("llava", ("optimization=offloaded_cache",), "there is no GPU to offload from"),
    ],
)
def test_what_cannot_be_done_is_unsupported(
    model: str, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        TransformersEngine.check(compose_point(f"model={model}", *overrides))


def test_a_missing_package_is_unsupported() -> None:
    if find_spec("hqq") is not None:
        pytest.skip("hqq is installed")
    point = compose_point(
        "model=llava",
        "optimization=quantized_cache",
        "optimization.quantized_cache.backend=hqq",
    )
    with pytest.raises(Unsupported, match=r"hqq is not installed.*requirements-cache\.txt"):
        TransformersEngine.check(point)


@pytest.mark.parametrize(
    "settings",
    [
        ("backend=int8",),
        ("bits=4",),
        ("backend=quanto",),
        ("backend=hqq", "bits=3"),
        ("backend=hqq", "group=0"),
        ("residual=64",),
    ],
)
def test_wrong_settings_are_refused(settings: tuple[str, ...]) -> None:
    place = "optimization.quantized_cache"
    with pytest.raises(ConfigError, match=f"{place}."):
        compose_point(
            "model=llava", "optimization=quantized_cache", *(f"{place}.{s}" for s in settings)
        )


def test_two_caches_exclude_each_other() -> None:
    with pytest.raises(ConfigError):
        compose_point("model=llava", "optimization=[quantized_cache,static_cache]")
