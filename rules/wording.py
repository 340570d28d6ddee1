"""Names and numbers in the sentences of findings."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.graph import LayerCall
from auditor.graph.layer_graph import Shape

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


def times(sizes: Sequence[int | str | None]) -> str:
    """Sizes as a product: "3×3"."""
    return "×".join(str(size) for size in sizes)


def sample_shape(shape: Shape | None) -> str:
    """A shape without its batch dimension: "(26, 26, 10)"; "unknown" where it is."""
    return "unknown" if shape is None else f"({', '.join(str(size) for size in shape[1:])})"


def among(calls: Sequence[LayerCall]) -> str:
    """What a sentence on the worst of several calls begins with; empty where it is the only one."""
    return f"{names(calls)}: " if len(calls) > 1 else ""
