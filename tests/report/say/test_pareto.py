"""The front: exactly the points that no other point beats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from profiling.report.say.pareto import find_front

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=40)


@given(POINTS)
def test_the_front_is_what_comparing_all_with_all_gives(points: list[tuple[int, ...]]) -> None:
    expected = [
        i
        for i, mine in enumerate(points)
        if not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in points
        )
    ]
    assert find_front([tuple(map(float, point)) for point in points]) == expected


def test_a_known_front() -> None:
    assert find_front([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (2.0, 2.0)]) == [0, 1, 2, 4]
