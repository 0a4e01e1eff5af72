"""Flat names to nested weights and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.models.nested_weights import flatten, nest, part_at

STEPS = st.one_of(
    st.sampled_from(["a", "b", "weight", "01", "٣", "²", ""]), st.integers(0, 12).map(str)
)
NAMES = st.lists(STEPS, min_size=1, max_size=4).map(tuple)


def test_numbers_without_gaps_are_a_list_in_their_order() -> None:
    flat = {f"blocks.{number}.weight": number for number in (10, 2, *range(2), *range(3, 10))}
    assert [block["weight"] for block in nest(flat)["blocks"]] == list(range(11))


def test_gaps_are_kept() -> None:
    nested = nest({"mlp.2.weight": 1.0, "mlp.0.weight": 0.0})
    assert nested == {"mlp": {0: {"weight": 0.0}, 2: {"weight": 1.0}}}
    assert list(nested["mlp"]) == [0, 2]
    assert flatten(nested) == {"mlp.0.weight": 0.0, "mlp.2.weight": 1.0}


def test_names_at_the_top_may_be_numbers() -> None:
    assert nest({"0.weight": 1, "1.weight": 2}) == [{"weight": 1}, {"weight": 2}]


@pytest.mark.slow
@given(st.dictionaries(NAMES, st.integers(), max_size=12))
def test_the_way_back_gives_the_same(values: dict[tuple[str, ...], int]) -> None:
    flat: dict[str, int] = {}
    for path, value in values.items():
        name = ".".join(path)
        others = [f"{other}." for other in flat]
        if not any(f"{name}.".startswith(o) or o.startswith(f"{name}.") for o in others):
            flat[name] = value
    assert flatten(nest(flat)) == flat


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b"), ("a.b", "a.b.c")])
def test_a_value_with_parts_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is a value and has parts"):
        nest(dict.fromkeys(names, 1))


def test_values_that_are_dicts_or_lists_of_their_own_do_not_count_as_parts() -> None:
    with pytest.raises(ValueError, match="is a value and has parts"):
        nest({"a": {"c": 1}, "a.b": 1})


def test_a_part_is_found_by_the_path_of_its_module() -> None:
    nested = nest({"blocks.0.weight": 1, "blocks.1.weight": 2, "mlp.2.bias": 3})
    assert part_at(nested, "") is nested
    assert part_at(nested, "blocks.1") == {"weight": 2}
    assert part_at(nested, "mlp.2") == {"bias": 3}
    for path in ("blocks.2", "mlp.0", "blocks.1.weight.x", "absent"):
        assert part_at(nested, path) == {}
