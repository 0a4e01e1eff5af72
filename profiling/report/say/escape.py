"""Turn text that a model or a data set wrote into text that no reader takes for markup."""

from __future__ import annotations

import json
import re
import unicodedata

_PLAIN = frozenset(" ,;?'\"()-+=%/.:")
LONGEST = 300
LINE_END = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
_INNER_UNDERSCORE = re.compile(r"(?<=[A-Za-z0-9])&#95;(?=[A-Za-z0-9])")


def shorten(text: str, longest: int = LONGEST) -> str:
    """Cut a long text and say how much of it there was."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters)"


def _escape_character(character: str) -> str:
    if character in "\r\n":
        return LINE_END
    # Control, format (bidirectional overrides) and lone surrogates change how a page reads.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    # Only ASCII has a meaning in markdown and HTML.
    if character.isalnum() or character in _PLAIN or not character.isascii():
        return character
    return f"&#{ord(character)};"


def markdown(text: str) -> str:
    """Text for a markdown table cell; character references cannot start any structure."""
    plain = "".join(map(_escape_character, shorten(str(text)).replace("\r\n", "\n")))
    # Inside a word an underscore emphasizes nothing, and names are full of them.
    plain = _INNER_UNDERSCORE.sub("_", plain)
    # Several renderers turn a bare address into a link.
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def embedded_json(value: object) -> str:
    """JSON that may stand inside a script element whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
