"""Names and numbers in the sentences of findings."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.graph import LayerCall

#: Layers named in a message; the finding lists them all.
NAMED = 3


def names(calls: Sequence[LayerCall]) -> str:
    """The calls by id: "`a`", "`a` and `b`", "`a`, `b`, `c` and 4 more"."""
    quoted = [f"`{call.id}`" for call in calls[:NAMED]]
    rest = len(calls) - len(quoted)
    if rest:
        return f"{', '.join(quoted)} and {rest} more"
    return " and ".join(filter(None, (", ".join(quoted[:-1]), *quoted[-1:])))


def ids(calls: Sequence[LayerCall]) -> tuple[str, ...]:
    """Ids of the calls, each once, in order."""
    return tuple(dict.fromkeys(call.id for call in calls))


def plural(count: int, noun: str) -> str:
    """A number of things: "1 layer", "3 layers"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
