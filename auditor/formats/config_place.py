"""Where in a configuration a value stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from auditor.formats.untrusted import mapping, summary, text


class Place(NamedTuple):
    """A place in a document, kept as a chain of steps: it is spelled out for hazards only.

    `step` is an object's key or a list's index, and the document's name for the outermost place;
    `holder` is the object that stands there, None for a list. A tuple, because a configuration has
    tens of thousands of them.
    """

    step: str | int
    above: Place | None = None
    holder: Mapping[str, Any] | None = None

    @property
    def document(self) -> str:
        """The document's name."""
        place = self
        while place.above is not None:
            place = place.above
        return str(place.step)

    def __str__(self) -> str:
        steps: list[str] = []
        name = ""
        place = self
        while place.above is not None:
            steps.append(f"[{place.step}]" if isinstance(place.step, int) else f".{place.step}")
            name = name or _name(place.holder)
            place = place.above
        name = name or _name(place.holder)
        path = "".join(reversed(steps)).lstrip(".")
        shown = summary(f"{place.step}: {path or 'model'}", 160)
        return f"{shown} ({summary(name)})" if name else shown


def _name(holder: Mapping[str, Any] | None) -> str:
    """The name of a layer or other object; a mere dictionary has one in its configuration only."""
    if holder is None:
        return ""
    own = text(holder.get("name")) if isinstance(holder.get("class_name"), str) else ""
    return text(mapping(holder.get("config")).get("name")) or own
