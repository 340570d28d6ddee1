"""Tables of numbers as a page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from .prose import Span


@dataclass(frozen=True, kw_only=True)
class Column:
    """A numeric column; `title` explains the `label`."""

    label: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number as shown, and the key that sorts it (empty: unknown).

    `error` is what stands small behind the number, `title` how the number came about; `shade`, a
    colour of the scale of factors. Each may be empty.
    """

    text: str
    sort: str
    shade: str = ""
    error: str = ""
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: its name, the anchor of the call it is of (or ""), its cells, and a remark."""

    name: str
    anchor: str
    cells: tuple[Cell, ...]
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class MeasureTable:
    """Measures of a few calls, under a lead that says what healthy looks like, with its source."""

    title: str
    lead: tuple[Span, ...]
    named: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    left_out: int = 0

    @property
    def remarks(self) -> bool:
        """Whether any row has a remark."""
        return any(row.remark for row in self.rows)
