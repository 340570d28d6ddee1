"""Messages and remedies taken apart: prose with `code` spans, and one fenced block of Python."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .printable import block, printable
from .quantity import power

FENCE = re.compile(r"\n*^```[a-z]*[ \t]*\n(?P<code>.*?)^```[ \t]*$\n*", re.MULTILINE | re.DOTALL)
#: A number in scientific notation that stands by itself.
SCIENTIFIC = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)e([+-]?\d+)(?![\w.]*\w)", re.ASCII)
CODE_SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of prose, set as code or not."""

    text: str
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What to do: paragraphs of prose, and Python to paste (empty where there is none)."""

    paragraphs: tuple[tuple[Span, ...], ...]
    code: str


def spans(text: str) -> tuple[Span, ...]:
    """Prose with its backquoted spans told apart; line breaks become spaces."""
    pieces = CODE_SPAN.split(printable(" ".join(text.split())))
    return tuple(
        Span(text=piece, code=True) if index % 2 else Span(text=_powers(piece))
        for index, piece in enumerate(pieces)
        if piece
    )


def sentence(text: str) -> tuple[Span, ...]:
    """`spans` of a text that begins with a capital, whatever its author began it with."""
    return spans(text[:1].upper() + text[1:])


def plain(text: str) -> str:
    """Prose on one line, without its backquotes."""
    return "".join(span.text for span in spans(text))


def remedy(text: str) -> Remedy:
    """A finding's remedy: its fenced block apart from its prose."""
    fence = FENCE.search(text)
    code = block(fence["code"]).rstrip() if fence else ""
    rest = FENCE.sub("\n\n", text) if fence else text
    paragraphs = (spans(paragraph) for paragraph in re.split(r"\n\s*\n", rest))
    return Remedy(paragraphs=tuple(paragraph for paragraph in paragraphs if paragraph), code=code)


def _powers(text: str) -> str:
    """1.7e+09 as 1.7×10⁹."""

    def written(found: re.Match[str]) -> str:
        mantissa, exponent = found.groups()
        lead = "" if mantissa == "1" else f"{mantissa}×"
        return lead + power(int(exponent))

    return SCIENTIFIC.sub(written, text)
