"""One launch: who works when, on which batch, and what is counted."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest

from profiling.runs.paired.side import SideFailed
from profiling.runs.paired.turns import (
    LAUNCHES,
    PASSES,
    CountPairs,
    ExtendPairs,
    Launch,
    Turns,
    WarmUp,
)
from profiling.statistics.ratios import Logs
from tests.runs.paired.scripted import BATCHES, PHASES_S, Script, ScriptedSide


def keep(logs: Logs, launch_s: float, pair_s: float) -> int:
    return len(logs)


def make_turns(
    script: Script,
    count_pairs: CountPairs,
    position: int = 0,
    extend_pairs: ExtendPairs = keep,
) -> Turns:
    means = script.means()
    return Turns(
        position=position,
        start=lambda name: ScriptedSide(script, name, None),  # type: ignore[arg-type]
        watch=partial(means.watch, limits=None),
        warm_up=WarmUp(window=3, tolerance=0.1, cap=15, time_budget_s=100.0),
        count_pairs=count_pairs,
        extend_pairs=extend_pairs,
        now_s=means.now_s,
    )


def run(
    script: Script, *, number: int = 1, pairs: int = 4, how: str = PASSES, position: int = 0
) -> Launch:
    return make_turns(script, lambda *_: pairs, position).run(number, interleaved=how)


def test_passes_alternate_and_the_order_within_pairs_too() -> None:
    script = Script()
    launch = run(script)
    assert script.order() == "abbaabba"
    assert (launch.first, launch.pairs, launch.interleaved) == ("a", 4, PASSES)


def test_a_launch_goes_on_where_its_pairs_spread_too_much() -> None:
    script = Script(factors={"a": 2.0, "b": 1.0})
    seen: list[tuple[Logs, float, float]] = []

    def extend(logs: Logs, launch_s: float, pair_s: float) -> int:
        seen.append((logs, launch_s, pair_s))
        return 6

    launch = make_turns(script, lambda *_: 4, extend_pairs=extend).run(1, interleaved=PASSES)
    assert (script.order(), launch.pairs) == ("abba" * 3, 6)
    assert launch.sides["a"].batches == list(range(6))
    ((logs, launch_s, pair_s),) = seen
    assert logs == pytest.approx([math.log(2)] * 4)
    assert launch_s == launch.start_s and pair_s == pytest.approx(3 * sum(PHASES_S.values()))


def test_the_side_that_starts_alternates_from_launch_to_launch() -> None:
    script = Script()
    launch = run(script, number=2)
    assert [side for _, side in script.events("start")] == ["b", "a"]
    assert (script.order(), launch.first) == ("baabbaab", "b")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("pairs", [8, 10])
def test_neither_side_runs_more_often_after_itself(number: int, pairs: int) -> None:
    """What the last pass left in the caches favours the side that it was of."""
    script = Script()
    run(script, number=number, pairs=pairs)
    ran = [(side, counted) for _, side, _, counted in script.events("pass")]
    after_itself = [
        side for (last, _), (side, counted) in pairwise(ran) if counted and last == side
    ]
    assert after_itself.count("a") == after_itself.count("b") == pairs // 2


@pytest.mark.parametrize("number", [1, 2])
def test_the_side_that_starts_is_the_last_to_be_made_ready(number: int) -> None:
    script = Script()
    launch = run(script, number=number)
    begun = [side for _, side, _ in script.events("begin")]
    assert begun == [{"a": "b", "b": "a"}[launch.first], launch.first]


def test_both_load_at_the_same_time() -> None:
    script = Script()
    run(script)
    kinds = [kind for kind, *_ in script.log]
    assert kinds[:4] == ["start", "start", "load", "load"]


def test_both_passes_of_a_pair_have_the_same_batch() -> None:
    launch = run(Script(), pairs=12)
    assert launch.sides["a"].batches == launch.sides["b"].batches
    assert launch.sides["a"].batches == [pass_ % BATCHES for pass_ in range(12)]


@pytest.mark.parametrize("how", [PASSES, LAUNCHES])
def test_a_launch_begins_at_its_place_in_the_order(how: str) -> None:
    launch = run(Script(), number=3, pairs=6, how=how, position=12)
    assert launch.sides["b"].batches == launch.sides["a"].batches
    assert launch.sides["a"].batches == [(12 + pass_) % BATCHES for pass_ in range(6)]


def test_warming_up_is_not_counted_and_ends_when_both_have_settled() -> None:
    script = Script()
    launch = run(script)
    # Two cold passes, then medians of three have to agree three times.
    assert {len(side.warmup) for side in launch.sides.values()} == {6}
    assert set(launch.sides["a"].times_s["total"]) == {sum(PHASES_S.values())}
    watched = script.log.index(("watched", "a", "b"))
    assert all(event[3] for event in script.log[watched:] if event[0] == "pass")


def test_warming_up_is_bounded() -> None:
    never_settled = tuple(1.5**number for number in range(30))
    launch = run(Script(cold=never_settled))
    assert {len(side.warmup) for side in launch.sides.values()} == {15}


def test_pairs_are_chosen_by_what_starting_and_a_pair_take() -> None:
    asked: list[tuple[float, float]] = []

    def count_pairs(start_s: float, pair_s: float) -> int:
        asked.append((start_s, pair_s))
        return 2

    script = Script(factors={"a": 1.0, "b": 2.0})
    make_turns(script, count_pairs).run(1, interleaved=PASSES)
    ((start_s, pair_s),) = asked
    assert pair_s == pytest.approx(3 * sum(PHASES_S.values()))
    warm_s = (3.0 + 1.5 + 4) * pair_s
    assert start_s == pytest.approx(2 * script.load_s + warm_s)


def test_a_launch_comes_back_from_json_as_it_was() -> None:
    launch = run(Script())
    assert Launch.from_json(launch.as_json()) == launch


# Launches that alternate


def test_one_side_after_the_other_where_both_do_not_fit() -> None:
    script = Script()
    launch = run(script, pairs=3, how=LAUNCHES)
    assert script.order() == "aaabbb"
    events = [(kind, side) for kind, side, *_ in script.events("start", "close")]
    assert events == [("start", "a"), ("close", "a"), ("start", "b"), ("close", "b")]
    assert launch.sides["a"].batches == launch.sides["b"].batches
    assert launch.interleaved == LAUNCHES
    again = Script()
    assert run(again, number=2, pairs=3, how=LAUNCHES).first == "b"
    assert again.order() == "bbbaaa"


# What goes wrong


@pytest.mark.parametrize("how", [PASSES, LAUNCHES])
@pytest.mark.parametrize("when", ["loading", 8])
def test_no_process_is_left_where_a_side_fails(how: str, when: str | int) -> None:
    failed = SideFailed(side="b", status="failed", error="as told", traceback=None)
    script = Script(failures={("b", when): failed})
    with pytest.raises(SideFailed):
        run(script, how=how)
    started = {side for _, side in script.events("start")}
    assert {side for _, side in script.events("kill")} == started


def test_a_side_that_works_while_it_should_wait_is_noise() -> None:
    assert run(Script()).noise is None
    noise = run(Script(idle_share=0.3)).noise
    assert noise == ("a used 30% of a core while it waited; b used 30% of a core while it waited")


def test_what_the_gate_finds_is_noise() -> None:
    assert run(Script(noise="a busy machine")).noise == "a busy machine"
    assert run(Script(noise="a busy machine"), how=LAUNCHES).noise == "a busy machine"
