"""Durations out of marked moments: phases that add up, tokens of rows, and what is not marked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from profiling.engines.trace import HostClock, PhaseMissing, Timing, Trace
from tests.composing import PROJECT
from tests.engines.ticking import Ticks, tell, walk

SPANS = ("preprocess", "transfer", "vision", "projector", "prefill")
INSIDE = "inside a server, which marks no phases"


def begin() -> tuple[Trace, int]:
    trace = Trace(clock=Ticks())
    return trace, trace.clock.mark()


def end(trace: Trace, begun: int, *blind: str) -> Timing:
    return trace.timing(begun, trace.clock.mark(), dict.fromkeys(blind, INSIDE))


# Phases


def test_phases_of_known_length_are_told_apart() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)  # marks 1 to 10
    tell(trace, 1, 2, 3)  # 11, 12, 13
    timing = end(trace, begun)
    assert timing.latency_s == 14
    # Five spans of a second each; decoding from 10 to 13; the gaps and the end are `other`.
    assert timing.phases_s == {**dict.fromkeys(SPANS, 1), "decode": 3, "other": 6}
    assert (timing.ttft_s, timing.tpot_s, timing.num_tokens) == (11, 1, 3)


def test_a_projector_inside_of_the_vision_part_is_counted_once() -> None:
    trace, begun = begin()
    walk(trace, "preprocess", "transfer")
    with trace.span("vision"):  # 5 to 8
        walk(trace, "projector")  # 6 to 7
    walk(trace, "prefill")
    tell(trace, 1)
    timing = end(trace, begun)
    assert (timing.phases_s["vision"], timing.phases_s["projector"]) == (2, 1)
    assert sum(timing.phases_s.values()) == timing.latency_s


def test_spans_two_deep_each_lose_only_what_lies_right_inside() -> None:
    trace, begun = begin()
    walk(trace, "preprocess", "transfer")  # 1 to 4
    with trace.span("prefill"), trace.span("vision"):  # 5 to 12, 6 to 11
        walk(trace, "projector", "projector")  # 7 to 8, 9 to 10
    tell(trace, 1)  # 13
    timing = end(trace, begun)
    assert timing.phases_s["prefill"] == 7 - 5
    assert timing.phases_s["vision"] == 5 - 2
    assert timing.phases_s["projector"] == 2
    assert sum(timing.phases_s.values()) == timing.latency_s


def test_a_phase_inside_of_itself_is_counted_once() -> None:
    """An encoder whose hooks stand on a module and on one inside of it."""
    trace, begun = begin()
    walk(trace, "preprocess", "transfer", "vision", "projector")  # 1 to 8
    with trace.span("prefill"):  # 9 to 12
        walk(trace, "prefill")  # 10 to 11
    tell(trace, 1)  # 13
    timing = end(trace, begun)
    assert timing.phases_s["prefill"] == 3
    assert timing.phases_s["decode"] == 1
    assert sum(timing.phases_s.values()) == timing.latency_s


def test_a_blind_phase_inside_of_another_stays_with_that() -> None:
    trace, begun = begin()
    walk(trace, "preprocess", "transfer")
    with trace.span("vision"):  # 5 to 8
        walk(trace, "projector")
    walk(trace, "prefill")
    tell(trace, 1)
    timing = end(trace, begun, "projector")
    assert timing.phases_s["vision"] == 3
    assert "projector" not in timing.phases_s
    assert sum(timing.phases_s.values()) == timing.latency_s


def test_a_part_that_is_entered_twice_is_counted_twice() -> None:
    trace, begun = begin()
    walk(trace, *SPANS, "vision")
    tell(trace, 1)
    assert end(trace, begun).phases_s["vision"] == 2


def test_decoding_begins_where_the_last_prefill_ends() -> None:
    """A text encoder and the decoder's first step: two spans of one phase."""
    trace, begun = begin()
    walk(trace, *SPANS, "prefill")  # 1 to 12
    tell(trace, 1, 2)  # 13, 14
    timing = end(trace, begun)
    assert (timing.phases_s["prefill"], timing.phases_s["decode"]) == (2, 2)


# Tokens


def test_one_token_has_no_time_between_tokens() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)
    tell(trace, 1)
    timing = end(trace, begun)
    assert timing.tpot_s is None
    assert timing.ttft_s is not None
    assert timing.ttft_s <= timing.latency_s


def test_several_tokens_a_mark_share_the_time_between_marks() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)  # 1 to 10
    tell(trace, 1, 4, 9)  # 11, 12, 13
    timing = end(trace, begun)
    assert timing.tpot_s == pytest.approx(2 / 8)
    assert (timing.ttft_s, timing.num_tokens) == (11, 9)
    assert timing.phases_s["decode"] == 3


def test_several_tokens_at_the_first_mark_count_and_take_no_step() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)
    tell(trace, 3, 5)
    timing = end(trace, begun)
    assert (timing.num_tokens, timing.tpot_s) == (5, pytest.approx(1 / 2))


def test_rows_that_advance_by_themselves_are_averaged() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)  # 1 to 10
    tell(trace, 1, row=0)  # 11
    tell(trace, 1, row=1)  # 12
    tell(trace, 3, row=0)  # 13
    tell(trace, 2, 3, 5, row=1)  # 14, 15, 16
    timing = end(trace, begun)
    assert timing.num_tokens == (3 + 5) / 2
    assert timing.ttft_s == (11 + 12) / 2
    # Two steps in two seconds, and four in four.
    assert timing.tpot_s == pytest.approx((2 + 4) / (2 + 4))
    # Until the last token of the last row.
    assert timing.phases_s["decode"] == 6


def test_a_row_of_one_token_adds_no_step() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)
    tell(trace, 1, row=0)
    tell(trace, 1, 3, row=1)
    assert end(trace, begun).tpot_s == pytest.approx(1 / 2)


def test_a_moment_that_was_marked_before_may_be_told_later() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)  # 1 to 10
    arrived = trace.clock.mark()  # 11
    trace.clock.mark()
    trace.tokens(1, moment=arrived)
    assert end(trace, begun).ttft_s == 11


# Blind


def test_of_a_blind_phase_nothing_is_said_and_its_time_is_other() -> None:
    trace, begun = begin()
    walk(trace, "preprocess", "transfer")  # 1 to 4
    tell(trace, 1, 2)  # 5, 6
    timing = end(trace, begun, "vision", "projector", "prefill")
    assert timing.phases_s == {"preprocess": 1, "transfer": 1, "decode": 1, "other": 4}
    assert (timing.latency_s, timing.ttft_s, timing.tpot_s) == (7, 5, 1)


def test_without_a_prefill_decoding_begins_at_the_first_token_seen() -> None:
    trace, begun = begin()
    walk(trace, "preprocess", "transfer")  # 1 to 4
    tell(trace, 1, row=0)  # 5
    tell(trace, 1, row=1)  # 6
    tell(trace, 4, row=0)  # 7
    timing = end(trace, begun, "vision", "projector", "prefill")
    assert timing.phases_s["decode"] == 7 - 5
    assert sum(timing.phases_s.values()) == timing.latency_s


def test_blind_decoding_is_not_stated() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)
    tell(trace, 5)
    timing = end(trace, begun, "decode")
    assert "decode" not in timing.phases_s
    assert sum(timing.phases_s.values()) == timing.latency_s


# Missing


@pytest.mark.parametrize("missing", SPANS)
def test_a_phase_that_was_never_entered_is_named(missing: str) -> None:
    trace, begun = begin()
    walk(trace, *(phase for phase in SPANS if phase != missing))
    tell(trace, 1)
    with pytest.raises(PhaseMissing, match=missing):
        end(trace, begun)


def test_a_generation_without_a_token_is_none() -> None:
    trace, begun = begin()
    walk(trace, *SPANS)
    with pytest.raises(PhaseMissing, match="any new token"):
        end(trace, begun)


def test_a_phase_that_is_left_without_entering_is_named() -> None:
    trace, _ = begin()
    with pytest.raises(PhaseMissing, match="vision was left"):
        trace.leave("vision")


def test_a_phase_that_is_left_while_another_is_open_is_named() -> None:
    trace, _ = begin()
    trace.enter("projector")
    with pytest.raises(PhaseMissing, match="vision was left"):
        trace.leave("vision")


def test_a_phase_that_is_entered_and_never_left_is_named() -> None:
    trace, begun = begin()
    trace.enter("vision")
    walk(trace, *SPANS)
    tell(trace, 1)
    with pytest.raises(PhaseMissing, match="vision was entered"):
        end(trace, begun)


# The clock


def test_a_host_clock_counts_in_seconds() -> None:
    assert HostClock().between_s(0, 2_500_000_000) == 2.5


def test_moments_are_marked_without_a_framework() -> None:
    program = (
        "import json, sys, profiling.engines.trace as _;"
        "print(json.dumps(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
