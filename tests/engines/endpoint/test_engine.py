"""A point run by a server: what is timed, what is counted, and what a record says of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from profiling import metrics
from profiling.engines.endpoint.engine import BLIND, EndpointEngine
from profiling.engines.endpoint.failures import EndpointError
from profiling.engines.endpoint.local_process import (
    NOT_LOOPBACK,
    WHOLE_DEVICE,
    Computing,
    find_server,
    place,
)
from profiling.engines.engine import Loading, find_engine
from profiling.engines.trace import Trace
from profiling.engines.workload import Workload
from profiling.errors import Unsupported
from profiling.models.weights import describe_weights
from profiling.points.point import Point
from profiling.probes.codecarbon_estimate import ModelledEnergy
from profiling.probes.energy import EnergyProbe
from profiling.probes.latency import LatencyProbe
from profiling.probes.memory import ON_CPU, MemoryProbe
from profiling.records import UNAVAILABLE, Reading
from profiling.runs.experiment import load, measure
from profiling.samples.clips import still_clip
from profiling.samples.samples import full_batches, load_samples
from tests.composing import PROJECT, compose_point
from tests.engines.endpoint.recorded import from_a_server
from tests.engines.endpoint.scripted_server import (
    MODEL,
    Body,
    Reply,
    Server,
    answer_to_picture,
    as_json,
    chunk,
    question_of,
    refuse,
    stream,
)

SAMPLES = load_samples(PROJECT / "datasets" / "textvqa", count=8, at_most=None)
LOADING = Loading(load_s=0.0, peak_bytes=0, peak_source="")
LENGTH = 6


@contextmanager
def loaded(server: Server, *overrides: str) -> Iterator[EndpointEngine]:
    engine = EndpointEngine.load(server.point(*overrides))
    try:
        yield engine
    finally:
        engine.close()


def workload(engine: EndpointEngine, *, batch_size: int = 1, count: int = 4) -> Workload:
    return Workload(
        engine=engine,
        batches=full_batches(SAMPLES[:count], batch_size),
        img_size=112,
        prompt_len=None,
        max_new_tokens=LENGTH,
        preload=True,
    )


def by_metric(readings: Iterator[Reading] | list[Reading]) -> dict[str, Reading]:
    return {reading.metric: reading for reading in readings if reading.is_aggregate}


def natural(body: Body) -> Reply:
    """A server that goes its own way: it takes every field and heeds none but the length."""
    pieces = list(question_of(body)[:3])[: body["max_tokens"]]
    return stream(pieces, count=len(pieces))


def strict(*known: str) -> Any:
    """A server that refuses fields that it does not know."""
    allowed = {"model", "messages", "stream", "temperature", "max_tokens", *known}

    def chat(body: Body) -> Reply:
        strange = sorted(body.keys() - allowed)
        if strange:
            return refuse(422, f"Unexpected fields in the request: {strange}")
        return answer_to_picture(body)

    return chat


# What is asked


def test_the_engine_is_found_by_its_room(server: Server) -> None:
    assert find_engine(server.point()) is EndpointEngine


def test_a_request_holds_the_picture_and_the_question(server: Server) -> None:
    with loaded(server) as engine:
        workload(engine).run(0)
    body = server.bodies[-1]
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert content[1]["text"] in {sample.request for sample in SAMPLES}
    assert (body["model"], body["stream"], body["temperature"]) == (MODEL, True, 0)
    assert (body["max_tokens"], body["ignore_eos"], body["min_tokens"]) == (LENGTH, True, LENGTH)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_a_request_holds_all_pictures_of_a_sample_in_order(server: Server) -> None:
    own = [sample.picture for sample in SAMPLES]
    samples = [
        replace(SAMPLES[0], pictures=(own[0], own[1], own[0])),
        replace(SAMPLES[1], pictures=(own[1],)),
    ]
    with loaded(server) as engine:
        batch = engine.prepare(samples, None)
        inputs = engine.encode(batch, 112)
        rows = engine.describe(batch, inputs, None)
        engine.generate(inputs, length=LENGTH, exact=True, trace=None)
    counts = {
        question_of(body): [part["type"] for part in body["messages"][0]["content"]]
        for body in server.bodies
    }
    assert counts[samples[0].request] == [*["image_url"] * 3, "text"]
    assert counts[samples[1].request] == ["image_url", "text"]
    (body,) = [one for one in server.bodies if question_of(one) == samples[0].request]
    first, second, third, _ = body["messages"][0]["content"]
    assert first == third != second
    assert [(row.image_width, row.image_height) for row in rows] == [(112, 112)] * 2


def test_a_clip_has_no_place_in_a_request(server: Server) -> None:
    clip = still_clip(SAMPLES[0].picture, 2)
    with pytest.raises(Unsupported, match=r"^engine=endpoint: a clip has no place"):
        EndpointEngine.check_samples(server.point(), [replace(SAMPLES[0], pictures=(), clip=clip)])


def test_more_fields_can_be_given_and_taken_away(server: Server) -> None:
    more = "engine.extra_body={top_k: 1, temperature: null}"
    with loaded(server, more) as engine:
        workload(engine).run(0)
    assert server.bodies[-1]["top_k"] == 1
    assert not any("temperature" in body for body in server.bodies)


def test_the_length_has_another_name_where_that_is_wanted(server: Server) -> None:
    server.chat = lambda body: stream(["a"], count=1)
    with loaded(server, "engine.length_field=max_completion_tokens") as engine:
        workload(engine).run(0)
    assert server.bodies[-1]["max_completion_tokens"] == LENGTH
    assert not any("max_tokens" in body for body in server.bodies)


# What a server understands


@pytest.mark.parametrize(
    ("known", "way"),
    [
        (("min_tokens", "ignore_eos", "stream_options"), "ignore_eos and min_tokens"),
        (("stream_options",), None),
        ((), None),
    ],
)
def test_fields_that_are_refused_are_left_out(
    server: Server, known: tuple[str, ...], way: str | None
) -> None:
    server.chat = strict(*known)
    with loaded(server) as engine:
        exact, usage = engine.dialect.exact, engine.dialect.usage
        workload(engine).run(0)
    assert (None if exact is None else exact.name) == way
    assert ("stream_options" in usage) == ("stream_options" in known)


def test_usage_at_the_end_is_asked_for_where_more_is_refused(server: Server) -> None:
    def chat(body: Body) -> Reply:
        if "continuous_usage_stats" in body.get("stream_options", {}):
            return refuse(400, "continuous_usage_stats is unknown")
        return answer_to_picture(body)

    server.chat = chat
    with loaded(server) as engine:
        assert engine.dialect.usage == {"stream_options": {"include_usage": True}}


def test_an_exact_length_may_be_a_generation_config(server: Server) -> None:
    def chat(body: Body) -> Reply:
        known = strict("generation_config")(body)
        if known.status != 200 or "generation_config" not in body:
            return known
        length = json.loads(body["generation_config"])["min_new_tokens"]
        return stream(["a"] * length, count=length)

    server.chat = chat
    with loaded(server) as engine:
        assert engine.dialect.exact is not None
        assert engine.dialect.exact.name == "generation_config"


def test_a_way_that_is_taken_and_not_heeded_is_none(server: Server) -> None:
    server.chat = natural
    with loaded(server) as engine:
        assert engine.dialect.exact is None
        load = workload(engine)
        load.run(0)
        found = by_metric(engine.readings(load, LOADING))
    share = found["exact_length_share"]
    assert share.value == 0
    assert "no way to answer with an exact number of tokens" in share.source
    assert "as long as the model made them" in share.source


# What cannot be had


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimization=bf16", "optimization=bf16: how the model runs is up to the server"),
        ("weights=random", "weights=random: the weights are those of the server"),
    ],
)
def test_what_is_up_to_the_server_is_unsupported(server: Server, override: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        EndpointEngine.check(server.point(override))
    assert server.asked == []


def test_the_rest_is_supported(server: Server) -> None:
    for override in ("optimization=baseline", "weights=pretrained", "device=cpu", "batch_size=4"):
        EndpointEngine.check(server.point(override))


def test_likelihoods_and_token_ids_are_not_shown(server: Server) -> None:
    with loaded(server) as engine:
        with pytest.raises(Unsupported, match="log-probabilities"):
            engine.reference_nlls([], ["a"], 3)
        with pytest.raises(Unsupported, match="no token ids"):
            engine.tokens([])
        with pytest.raises(Unsupported):
            engine.costs(None, length=1, cross_check=False)
        with pytest.raises(Unsupported):
            engine.replay("vision", lambda: None)


def test_memory_that_ran_out_is_the_servers_own_word() -> None:
    assert EndpointEngine.is_out_of_memory(
        EndpointError("500: CUDA Out of memory. Tried", status=500)
    )
    assert not EndpointEngine.is_out_of_memory(EndpointError("500: it broke", status=500))
    assert not EndpointEngine.is_out_of_memory(RuntimeError("out of memory"))


# What is timed


def test_marks_are_the_arrivals_in_order(server: Server) -> None:
    with loaded(server) as engine:
        load = workload(engine)
        timing = load.run_timed(0)
        inputs, trace = load.encode(1), Trace(clock=engine.clock())
        engine.generate(inputs, length=LENGTH, exact=True, trace=trace)
    marks = trace.rows[0]
    assert [mark.tokens for mark in marks] == list(range(1, LENGTH + 1))
    assert [mark.moment for mark in marks] == sorted(mark.moment for mark in marks)
    assert timing.num_tokens == LENGTH
    assert timing.ttft_s is not None and timing.tpot_s is not None
    assert 0 < timing.ttft_s < timing.latency_s
    assert timing.phases_s.keys() == {"preprocess", "decode", "other"}
    assert min(timing.phases_s.values()) >= 0
    assert sum(timing.phases_s.values()) == pytest.approx(timing.latency_s)


def test_pauses_between_tokens_are_in_the_times(server: Server) -> None:
    def slowly(body: Body) -> Reply:
        reply = answer_to_picture(body)
        return Reply(events=reply.events, pause_s=0.01)

    with loaded(server) as engine:
        load = workload(engine)
        server.chat = slowly
        timing = load.run_timed(0)
    assert timing.tpot_s is not None and timing.ttft_s is not None
    # The first event has no text: two pauses lie before the first token.
    assert timing.tpot_s >= 0.01 and timing.ttft_s >= 0.02
    assert timing.latency_s >= timing.ttft_s + (LENGTH - 1) * 0.01


def test_several_tokens_in_an_event_are_counted(server: Server) -> None:
    with loaded(server) as engine:
        server.chat = lambda _: stream(["ab", "cd", "ef"], count=LENGTH)
        timing = workload(engine).run_timed(0)
        assert timing.num_tokens == LENGTH
        assert engine.seen.spread == 1


def test_requests_of_a_batch_are_sent_at_once(server: Server) -> None:
    """Each is answered only when all are there."""
    together = threading.Barrier(3, timeout=20)

    def wait(body: Body) -> Reply:
        together.wait()
        return answer_to_picture(body)

    with loaded(server) as engine:
        load = workload(engine, batch_size=3, count=6)
        server.chat = wait
        trace = Trace(clock=engine.clock())
        answers = engine.generate(load.encode(0), length=LENGTH, exact=True, trace=trace)
        load.run(1)
    assert sorted(trace.rows) == [0, 1, 2]
    assert [len(marks) for marks in trace.rows.values()] == [LENGTH] * 3
    assert len({answer.text for answer in answers}) == 3


def test_answers_keep_their_rows(server: Server) -> None:
    first = threading.Event()

    def late(body: Body) -> Reply:
        if question_of(body) == "first":
            first.wait(20)
        else:
            first.set()
        return stream([question_of(body)], count=1)

    with loaded(server) as engine:
        server.chat = late
        chats = workload(engine, batch_size=2).encode(0).chats
        asked = [type(chats[0])(question=name, pictures=()) for name in ("first", "second")]
        answers = engine._ask_all(asked, length=3, exact=False)
    assert [answer.text for answer in answers] == ["first", "second"]


def test_a_larger_batch_gets_more_threads(server: Server) -> None:
    with loaded(server) as engine:
        workload(engine, batch_size=2).run(0)
        together = threading.Barrier(4, timeout=20)

        def wait(body: Body) -> Reply:
            together.wait()
            return answer_to_picture(body)

        server.chat = wait
        workload(engine, batch_size=4).run(0)


def test_a_queue_is_told_from_a_batch(server: Server) -> None:
    def slowly(body: Body) -> Reply:
        return Reply(events=answer_to_picture(body).events, pause_s=0.005)

    with loaded(server) as engine:
        load = workload(engine, batch_size=2)
        server.chat = slowly
        load.run(0)
        batched = by_metric(engine.readings(load, LOADING))["streams_at_once"].value
        engine._threads = lambda _: _InTurn()  # type: ignore[assignment,method-assign,return-value]
        load.run(0)
        queued = by_metric(engine.readings(load, LOADING))["streams_at_once"].value
    assert batched is not None and batched > 1.2
    assert queued == pytest.approx(1)


class _InTurn:
    """Requests one after another, as a server without batching answers them."""

    map = staticmethod(map)


def test_the_first_token_and_the_time_between_tokens_have_intervals(server: Server) -> None:
    settings = dict(time_budget_s=5, relative_target=0.03, minimum=3, maximum=40)
    probe = LatencyProbe(repeats=8, warmup_window=2, warmup_tolerance=1.0, warmup_cap=2, **settings)
    with loaded(server) as engine:
        found = by_metric(list(probe.measure(workload(engine))))
    for name in ("ttft", "tpot", "latency"):
        low, middle, high = (found[f"{name}{end}_s"] for end in ("_ci_low", "", "_ci_high"))
        assert middle.value is not None and middle.value > 0
        if low.value is None or high.value is None:
            # On a busy machine repeats may depend on each other too much: then the reason stands.
            assert (low.status, high.status) == (UNAVAILABLE, UNAVAILABLE) and low.source
            continue
        assert 0 < low.value <= middle.value <= high.value
        assert low.source.startswith("order statistics of 8 repeats")
    assert "at the client, when the tokens arrive" in found["ttft_s"].source
    for phase, reason in BLIND.items():
        assert (found[f"{phase}_s"].value, found[f"{phase}_s"].source) == (None, reason)


def test_tokens_that_arrive_at_once_have_no_time_between_them(server: Server) -> None:
    server.chat = lambda _: stream(["all of it"], count=LENGTH)
    settings = dict(time_budget_s=5, relative_target=0.03, minimum=3, maximum=40)
    probe = LatencyProbe(repeats=3, warmup_window=2, warmup_tolerance=1.0, warmup_cap=2, **settings)
    with loaded(server) as engine:
        found = by_metric(list(probe.measure(workload(engine))))
    assert (found["ttft_s"].value or 0) > 0
    assert found["tpot_s"].status == UNAVAILABLE
    assert found["tpot_s"].source.startswith("all tokens of an answer arrived at once")


# What is seen of a server


def seen(
    server: Server, *, batch_size: int = 1, count: int = 4, passes: int = 2
) -> dict[str, Reading]:
    with loaded(server) as engine:
        load = workload(engine, count=count)
        load.run(0)
        load.run(1)
        return by_metric(engine.readings(load, LOADING))


def test_a_server_says_what_it_is(server: Server) -> None:
    server.routes["/version"] = as_json({"version": "0.33.0"})
    server.routes["/v1/models"] = as_json({"data": [{"id": MODEL}]})
    metrics = 'vllm:cache_config_info{enable_prefix_caching="True"} 1.0'
    server.routes["/metrics"] = Reply(body=metrics)
    found = seen(server)
    assert found["server_identified"].value == 1
    assert found["server_identified"].source == "vLLM 0.33.0; lists served"
    assert found["prefix_caching"].value == 1
    assert (
        "each pass over the samples has a cache_salt of its own" in found["prefix_caching"].source
    )
    assert found["exact_length_share"].value == 1
    assert found["exact_length_share"].source.endswith("asked for by ignore_eos and min_tokens")
    assert found["token_marks_share"].value == 1
    assert found["num_repeated_requests"].value == 0
    assert all("cache_salt" in body for body in server.bodies[-2:])


def test_what_a_server_does_not_say_is_unavailable(server: Server) -> None:
    found = seen(server)
    for metric in ("server_identified", "prefix_caching", "cached_prompt_share", "streams_at_once"):
        assert found[metric].status == "unavailable"
        assert found[metric].source


def test_what_came_from_a_cache_is_a_share(server: Server) -> None:
    def cached(body: Body) -> Reply:
        details = {"prompt_tokens_details": {"cached_tokens": 10}}
        usage = {"prompt_tokens": 40, "completion_tokens": 1, **details}
        return Reply(events=[chunk("a"), chunk(None, finish="stop", usage=usage)])

    server.chat = cached
    assert seen(server)["cached_prompt_share"].value == 0.25


def test_repeated_requests_are_counted(server: Server) -> None:
    with loaded(server) as engine:
        load = workload(engine)
        refusals = [refuse(429, "slowly", Retry_After="0")] * 3
        server.chat = lambda body: refusals.pop() if refusals else answer_to_picture(body)
        load.run(0)
        first = by_metric(engine.readings(load, LOADING))
        again = by_metric(engine.readings(load, LOADING))
    assert first["num_repeated_requests"].value == 3
    # The next point counts by itself.
    assert again["num_repeated_requests"].value == 0
    assert again["exact_length_share"].value is None


def test_a_pass_begins_with_a_cache_of_its_own(server: Server) -> None:
    server.routes["/version"] = as_json({"version": "0.33.0"})
    with loaded(server) as engine:
        load = workload(engine)
        load.run(0)
        load.run(1)
        engine.begin_pass()
        load.run(0)
    salts = [body["cache_salt"] for body in server.bodies[-3:]]
    assert salts[0] == salts[1] != salts[2]


# Pictures


def with_logprob(body: Body, logprob: float) -> Reply:
    choice = {"delta": {"content": "a"}, "logprobs": {"content": [{"logprob": logprob}]}}
    events = [
        json.dumps({"choices": [choice]}),
        json.dumps({"choices": [{"finish_reason": "stop"}]}),
    ]
    return Reply(events=[f"data: {one}\n\n" for one in events])


def test_a_server_that_answers_to_the_picture(server: Server) -> None:
    effect = seen(server)["picture_effect"]
    assert effect.value == 1
    assert effect.source == "3 of 3 other pictures changed the answer"


def test_a_server_that_passes_over_pictures_is_found_out(server: Server) -> None:
    server.chat = natural
    effect = seen(server, count=8)["picture_effect"]
    assert effect.value == 0
    assert effect.source.startswith("the server does not seem to look at pictures: 7 other pict")


def test_log_probabilities_tell_where_answers_are_equal(server: Server) -> None:
    numbers: dict[str, float] = {}

    def chat(body: Body) -> Reply:
        picture = body["messages"][0]["content"][0]["image_url"]["url"]
        return with_logprob(body, numbers.setdefault(picture, -0.1 * len(numbers)))

    server.chat = chat
    effect = seen(server)["picture_effect"]
    assert effect.value == 1
    assert effect.source == "3 of 3 other pictures changed the log-probability of the first token"


def test_what_changes_by_itself_is_no_effect_of_a_picture(server: Server) -> None:
    turn = iter(range(10_000))
    server.chat = lambda body: with_logprob(body, -0.1 - 0.01 * (next(turn) % 2))
    assert seen(server)["picture_effect"].value == 0


def test_one_picture_alone_tells_nothing(server: Server) -> None:
    effect = seen(server, count=1)["picture_effect"]
    assert effect.value is None and "one picture" in effect.source


# A whole point


def run(point: Point, count: int = 4) -> Any:
    return measure(point, SAMPLES[:count], load(point), lambda _: None)


def test_a_point_is_run_to_a_full_record(server: Server) -> None:
    quick = ("profiler=quick", "profiler.repeats=3", "max_new_tokens=4", "batch_size=2")
    found = run(server.point(*quick))
    assert [line["answer"] for line in found.answers]
    first = found.answers[0]
    assert first["prompt"] == SAMPLES[0].request
    assert (first["image_width"], first["image_height"]) == (112, 112)
    assert (first["num_prompt_tokens"], first["num_new_tokens"]) == (30, 4)
    assert first["num_visual_tokens"] is None and first["wer"] is not None
    recorded = by_metric(found.readings)
    assert recorded["latency_s"].value is not None and recorded["wer"].value is not None
    assert recorded["num_prompt_tokens"].source == "counted by the server (usage), mean per sample"
    assert recorded["load_s"].source == "the server had loaded the model before"
    for name in ("flops", "reference_nll", "model_bytes", "vision_s", "mfu_prefill"):
        assert recorded[name].value is None and recorded[name].source


def test_tokens_that_nobody_counted_are_an_estimate(server: Server) -> None:
    server.chat = lambda body: stream(list("abc"))
    found = by_metric(run(server.point("profiler=quick", "profiler.repeats=3")).readings)
    assert (found["num_new_tokens"].value, found["num_new_tokens"].status) == (3, "estimated")
    assert "the server sends no usage" in found["num_new_tokens"].source
    assert found["num_prompt_tokens"].value is None


def test_a_length_that_no_tokenizer_gives_is_unsupported(server: Server) -> None:
    with pytest.raises(Unsupported, match="prompt_len needs the server's tokenizer"):
        run(server.point("profiler=quick", "prompt_len=7"))


def test_questions_have_the_length_that_is_asked_for(server: Server) -> None:
    server.routes["/tokenize"] = lambda body: as_json({"count": len(body["prompt"].split())})
    found = run(server.point("profiler=quick", "profiler.repeats=3", "prompt_len=7"))
    assert {line["num_question_tokens"] for line in found.answers} == {7}
    assert {len(line["prompt"].split()) for line in found.answers} == {7}


# What a device is charged with


def energy_probe(**changed: Any) -> EnergyProbe:
    settings = compose_point("profiler=quick").profiler["probes"]["energy"]
    return EnergyProbe(**settings, **changed)


def memory_probe() -> MemoryProbe:
    return MemoryProbe(passes=1, sample_interval_s=0.01)


def test_a_server_elsewhere_is_charged_with_nothing(server: Server) -> None:
    with loaded(server) as engine:
        engine.process = find_server("http://example.org/v1")
        load = workload(engine)
        found = by_metric([*energy_probe().measure(load), *memory_probe().measure(load)])
    for metric in ("energy_j", "vision_energy_j", "energy_estimate_j", "peak_memory_bytes"):
        assert (found[metric].value, found[metric].source) == (None, NOT_LOOPBACK)
    assert found["gpu_memory_peak_bytes"].source == NOT_LOOPBACK
    assert found["cpu_memory_peak_bytes"].source == NOT_LOOPBACK


def test_joules_of_a_server_are_those_of_a_whole_device(server: Server) -> None:
    class Estimate:
        def measure(self, work: Any) -> ModelledEnergy:
            work()
            return ModelledEnergy(cpu_j=2.0, ram_j=1.0, gpu_j=None, source="a model")

    with loaded(server) as engine:
        engine.process = place((os.getpid(),), [])
        probe = energy_probe(estimator=lambda _: Estimate())
        found = by_metric(list(probe.measure(workload(engine))))
    assert found["energy_estimate_j"].source == f"a model; {WHOLE_DEVICE}"
    assert "whole device" not in found["energy_cpu_package_j"].source


def test_memory_is_that_of_the_servers_processes(server: Server) -> None:
    with loaded(server) as engine:
        engine.process = place((os.getpid(),), [])
        found = by_metric(list(memory_probe().measure(workload(engine))))
    assert (found["cpu_memory_peak_bytes"].value or 0) > 1e7
    assert found["gpu_memory_peak_bytes"].source == ON_CPU


def test_a_board_is_charged_with_the_servers_memory(server: Server) -> None:
    with loaded(server) as engine:
        engine.process = place((7,), [Computing(uuid="GPU-7", pids=frozenset({7}))])
        footprint = engine.footprint()
    assert (footprint.on_gpu, footprint.on_cpu, footprint.gpu_uuid) == (True, False, "GPU-7")
    assert footprint.accelerator is not None and footprint.shared == WHOLE_DEVICE


def test_weights_are_said_to_be_the_servers(server: Server) -> None:
    said = describe_weights(server.point())
    assert said.startswith(f"the weights are those that the server at {server.url} calls {MODEL};")
    assert "stand-in" in describe_weights(compose_point())


def test_every_reading_of_a_server_is_declared() -> None:
    found = list(from_a_server())
    declared = {metric.name: metric for metric in metrics.list_given("endpoint")}
    assert {reading.metric for reading in found} == declared.keys()
    for reading in found:
        metric = declared[reading.metric]
        assert (reading.unit, reading.phase) == (metric.unit, metric.phase)
