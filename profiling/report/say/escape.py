"""Escape text of a model or a data set, so that no reader interprets it as markup."""

from __future__ import annotations

import json
import re
import unicodedata

_PLAIN = frozenset(" ,;?'\"()-+=%/.:")
LONGEST = 300
LINE_END = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
_INNER_UNDERSCORE = re.compile(r"(?<=[A-Za-z0-9])&#95;(?=[A-Za-z0-9])")


def shorten(text: str, longest: int = LONGEST) -> str:
    """Cut a long text, and append its length."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters)"


def _escape_character(character: str) -> str:
    if character in "\r\n":
        return LINE_END
    # Control and format characters (bidirectional overrides) and lone surrogates corrupt a page.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    # Only ASCII has a meaning in markdown and HTML.
    if character.isalnum() or character in _PLAIN or not character.isascii():
        return character
    return f"&#{ord(character)};"


def markdown(text: str) -> str:
    """Text for the cell of a markdown table; a character reference starts no markup."""
    plain = "".join(map(_escape_character, shorten(str(text)).replace("\r\n", "\n")))
    # An underscore inside a word is no emphasis, and is frequent in names.
    plain = _INNER_UNDERSCORE.sub("_", plain)
    # Several renderers turn a bare URL into a link.
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def code(text: str) -> str:
    """A command as code in markdown, whatever its words are; a longer fence holds backticks."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def embedded_json(value: object) -> str:
    """JSON that is safe inside a script element for any strings in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
