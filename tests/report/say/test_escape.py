"""Text of models and data sets is never markup, neither in markdown nor in a script element."""

from __future__ import annotations

import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.report.say import escape

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b | c",
    "`code` and ```fence",
    "line\nanother\r\nthird",
    "![x](javascript:alert(1)) [y](http://evil.example)",
    "**bold** _slanted_ ~~gone~~ # head",
    "\u202egnirts desrever",
    "&lt;b&gt; &amp;",
    "\\| escaped",
    "<!-- comment -->",
    "$x^2$ @someone #12",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_known_attacks_leave_no_markup(text: str) -> None:
    written = escape.markdown(text)
    assert not set(written.replace("&#", "")) & set("<>|`*[]!~$@\\\n\r{}")
    assert "://" not in written


@given(st.text())
def test_any_text_leaves_no_markup_and_reads_the_same(text: str) -> None:
    written = escape.markdown(text)
    assert not set(written) & set("<>|`*[]!~$@\\\n\r{}\u202e\x00\u2028")
    plain = [c for c in text[: escape.LONGEST] if c.isascii() and c.isprintable()]
    assert [c for c in html.unescape(written) if c in plain][: len(plain)] == plain


def test_a_long_text_is_cut_and_says_so() -> None:
    written = escape.markdown("a" * 10_000_000)
    assert len(written) < 400
    assert "(10000000 characters)" in written


def test_names_keep_their_underscores() -> None:
    assert escape.markdown("onnx_vision") == "onnx_vision"
    assert "_" not in escape.markdown("_slanted_")


@settings(max_examples=30)
@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_embedded_json_cannot_leave_its_element(value: object) -> None:
    written = escape.embedded_json({"value": value})
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == {"value": value}


def test_embedded_json_refuses_what_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        escape.embedded_json(float("nan"))
