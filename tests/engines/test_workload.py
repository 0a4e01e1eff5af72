"""A batch is taken through a model exactly as people run it, whether it is watched or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profiling.engines.transformers.hooks import (
    PhaseHooks,
    Trace,
    clock_for,
    token_marks,
)
from profiling.models import model as module
from profiling.models.model import Model
from profiling.samples.samples import full_batches
from tests.tiny_models import FAMILIES, load, make_workload, take_samples


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return load(request.param)


def test_outputs_are_the_same_with_and_without_hooks(model: Model) -> None:
    workload = make_workload(model, batch_size=2, max_new_tokens=5, count=4)
    plain = [workload.run(index) for index in range(2)]
    with PhaseHooks(model) as hooks:
        trace = Trace(clock=clock_for(model.device))
        hooks.follow(trace)
        with trace.span("preprocess"):
            inputs = workload.encode(0)
        watched = model.generate(
            model.place(inputs),
            side=workload.img_size,
            length=5,
            exact=True,
            stopping_criteria=token_marks(trace),
        )
        hooks.follow(None)
        unwatched = workload.run(1)
    assert torch.equal(watched, plain[0])
    assert torch.equal(unwatched, plain[1])
    assert len(trace.tokens) == 5


def test_every_batch_comes_round_again(model: Model) -> None:
    workload = make_workload(model, batch_size=2, max_new_tokens=3, count=4)
    first, second, again = (workload.run(index) for index in (0, 1, 2))
    assert first.shape == second.shape == (2, 3)
    assert torch.equal(first, again)


def test_pictures_are_read_once_or_each_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = module.read_picture
    monkeypatch.setattr(module, "read_picture", lambda path: (read.append(path), original(path))[1])
    kept = make_workload(model, batch_size=2, max_new_tokens=1, count=4)
    assert len(read) == 4
    fresh = make_workload(model, batch_size=2, max_new_tokens=1, count=4, preload=False)
    assert len(read) == 4
    one, other = (workload.encode(1) for workload in (kept, fresh))
    assert [path.name for path in read[4:]] == [s.picture.name for s in take_samples(4)[2:]]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_probe_may_ask_for_another_length(model: Model) -> None:
    workload = make_workload(model, batch_size=1, max_new_tokens=4, count=1)
    assert workload.run(0).shape == (1, 4)
    assert workload.run(0, max_new_tokens=2).shape == (1, 2)


def test_measured_batches_are_full() -> None:
    samples = take_samples(8)
    assert [len(batch) for batch in full_batches(samples, 3)] == [3, 3]
    (only,) = full_batches(samples[:2], 5)
    assert [sample.id for sample in only] == [samples[i].id for i in (0, 1, 0, 1, 0)]
