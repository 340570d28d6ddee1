"""Text from model files made safe to show: what a terminal or a page would obey becomes visible."""

from __future__ import annotations

import unicodedata

#: Unicode categories that steer a display instead of showing: controls, format characters (bidi
#: overrides, zero-width), surrogates, private use, unassigned, line and paragraph separators.
STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Longest name shown; a longer one loses its middle.
LONGEST_NAME = 160


def printable(text: object, *, keep: str = "") -> str:
    r"""`text` with every steering character written as its escape (`\x1b`, `\u202e`).

    Characters in `keep` (a newline, for code) stay; spaces of any kind become plain ones.
    """
    return "".join(character if character in keep else _shown(character) for character in str(text))


def block(text: object) -> str:
    """`printable` for text of several lines; tabs become spaces."""
    return printable(str(text).expandtabs(4), keep="\n")


def name(text: object, longest: int = LONGEST_NAME) -> str:
    """`printable` on one line, at most `longest` characters, the middle elided."""
    return elided(printable(text), longest)


def elided(text: str, longest: int) -> str:
    """`text` in at most `longest` characters: its middle gives way to an ellipsis."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def _shown(character: str) -> str:
    if " " <= character <= "~":
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return _escape(character) if category in STEERING else character


def _escape(character: str) -> str:
    point = ord(character)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
