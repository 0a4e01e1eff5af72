"""Escape text of a model or a data set, so that no reader interprets it as markup."""

from __future__ import annotations

import json
import re
import unicodedata

from profiling.errors import printable

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


_LATEX = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    # After the end of a row a bracket would be an argument, and two hyphens would be a dash.
    "[": "{[}",
    "-": "-{}",
    "\N{EN DASH}": "--",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$",
    "\N{ALMOST EQUAL TO}": r"$\approx$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{MICRO SIGN}": r"$\mu$",
    "\N{DAGGER}": r"$^\dagger$",
    "\N{DOUBLE DAGGER}": r"$^\ddagger$",
    "\N{SECTION SIGN}": r"\S{}",
    "\N{LOZENGE}": r"$\diamond$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
}
# Letters that every LaTeX can compose; its usual fonts lack the rest of Latin 1.
_COMPOSED = re.compile(r"[À-ÖØ-öø-ÿ]")
_NOT_COMPOSED = frozenset("ÐÞðþ")


def latex(text: str) -> str:
    """Text for LaTeX in any engine; a character that needs a font of its own becomes `?`."""
    return "".join(map(_escape_latex, " ".join(shorten(str(text)).split())))


def _escape_latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character if character.isprintable() else "?"
    is_letter = _COMPOSED.fullmatch(character) and character not in _NOT_COMPOSED
    return character if is_letter else "?"


def code(text: str) -> str:
    """A command as code in markdown, whatever its words are; a longer fence holds backticks."""
    plain = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def embedded_json(value: object) -> str:
    """JSON that is safe inside a script element for any strings in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
