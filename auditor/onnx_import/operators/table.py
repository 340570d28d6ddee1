"""The one table of operator implementations: by domain, name and version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: What flows along a graph's edges: a NumPy array where it is known before the model runs (a
#: constant, a shape), else a tensor of the running backend; a list for a sequence; None for an
#: input that is left out.
Value = Any
#: (node, *inputs) → the outputs: one value, or a tuple of them.
Implementation = Callable[..., Value]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node as its operator sees it.

    since: the version of the operator's schema that holds at the model's opset. attributes: by
    name, with the schema's defaults filled in; tensors as NumPy arrays, strings as `str`.
    outputs: how many outputs the graph uses, up to the last one named.
    """

    name: str
    domain: str
    kind: str
    since: int
    attributes: Mapping[str, Any]
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        value = self.attributes.get(name)
        return default if value is None else value


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One implementation: it serves the versions from `since` up to the next entry's."""

    domain: str
    kind: str
    since: int
    run: Implementation
    differentiable: bool = True
    note: str = ""


@dataclass(kw_only=True)
class Table:
    """All implementations."""

    entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def find(self, domain: str, kind: str, since: int) -> Entry | None:
        """The implementation for this version of an operator, if there is one."""
        fitting = [e for e in self.entries.get((domain, kind), ()) if e.since <= since]
        return max(fitting, key=lambda entry: entry.since, default=None)


TABLE = Table()


def operator(
    *kinds: str, since: int = 1, domain: str = "", differentiable: bool = True, note: str = ""
) -> Callable[[Implementation], Implementation]:
    """Enter an implementation for these operators, from this version of theirs on.

    `differentiable` is False for what has no derivative by its nature (comparisons, indices).
    `note` is a limit that the coverage page tells.
    """

    def enter(run: Implementation) -> Implementation:
        for kind in kinds:
            entry = Entry(
                domain=domain,
                kind=kind,
                since=since,
                run=run,
                differentiable=differentiable,
                note=note,
            )
            TABLE.entries.setdefault((domain, kind), []).append(entry)
        return run

    return enter


class Unsupported(Exception):
    """What an implementation cannot do, in a few words: the importer names the node."""

    #: Keras puts the arguments of a layer's call into the message of what is raised within it,
    #: unless that is done: the message has to stay a few words.
    _keras_call_info_injected = True


def is_known(value: Value) -> bool:
    """Whether a value is known before the model runs."""
    return isinstance(value, (np.ndarray, np.generic))


def known(value: Value, what: str) -> np.ndarray[Any, Any]:
    """A value that has to be known. Raises `Unsupported` where it depends on the input."""
    if not is_known(value):
        raise Unsupported(f"{what} depends on the model's input")
    return np.asarray(value)
