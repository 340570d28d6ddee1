"""The coverage table of the documentation, made from the table of operators.

python -m auditor.onnx_import.coverage docs/onnx.md     # rewrites the page's table
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import onnx.defs

from auditor.onnx_import.interpreter.control import CONTROL
from auditor.onnx_import.operators import load_operators
from auditor.onnx_import.operators.table import TABLE

BEGIN = "<!-- coverage: made by python -m auditor.onnx_import.coverage -->"
END = "<!-- coverage ends -->"
#: What the core does itself, by operator.
UNROLLED = "unrolled; If chooses where its condition is known, else computes both branches"


def rows() -> Iterator[tuple[str, str, str]]:
    """(operator, how it runs, note) of every operator that ONNX or the table has, by name."""
    load_operators()
    schemas = {(schema.domain, schema.name): schema for schema in onnx.defs.get_all_schemas()}
    for domain, kind in sorted({*schemas, *TABLE.entries}):
        entries = TABLE.entries.get((domain, kind), [])
        schema = schemas.get((domain, kind))
        name = f"{domain}.{kind}" if domain else kind
        notes = "; ".join(dict.fromkeys(entry.note for entry in entries if entry.note))
        if entries:
            smooth = any(entry.differentiable for entry in entries)
            since = ", ".join(str(entry.since) for entry in sorted(entries, key=lambda e: e.since))
            how = f"on Keras, from version {since}"
            yield name, how if smooth else f"{how}; has no derivative", notes
        elif not domain and kind in CONTROL:
            yield name, UNROLLED, notes
        elif schema is not None and _has_body(schema):
            yield name, "expanded to the operators that define it", notes
        else:
            yield name, "as a constant, by NumPy, where NumPy can", notes


def _has_body(schema: object) -> bool:
    return bool(
        getattr(schema, "has_function", False)
        or getattr(schema, "has_context_dependent_function", False)
    )


def table() -> str:
    """The table in Markdown."""
    lines = ["| operator | how it runs | limits |", "|---|---|---|"]
    lines += [f"| {name} | {how} | {note} |" for name, how, note in rows()]
    return "\n".join(lines)


def rewritten(page: str) -> str:
    """The page with its table made anew. Raises `ValueError` where it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the table")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Rewrite the table of a page."""
    path = Path(arguments[0])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
