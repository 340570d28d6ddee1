"""Values from a configuration nobody vouches for, taken only if they are what they should be.

Each function answers with an empty value or None where the value is of another kind; what must not
be missing is refused by the caller, who knows its place and what to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from auditor.graph.layer_graph import Shape

#: No dimension, stride or count beyond this is taken for meant.
LARGEST = 2**53


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object, default: str = "") -> str:
    """`value` if it is a string."""
    return value if isinstance(value, str) else default


def flag(value: object, default: bool) -> bool:
    """`value` if it is a boolean."""
    return value if isinstance(value, bool) else default


def integer(value: object) -> int | None:
    """`value` if it is a whole number of believable size (Keras 2 wrote some as floats)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and abs(value) <= LARGEST else None


def number(value: object) -> float | None:
    """`value` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def integers(value: object, count: int | None = None) -> tuple[int, ...] | None:
    """A list of whole numbers; one number stands for `count` equal ones."""
    single = integer(value)
    if single is not None:
        return (single,) * (1 if count is None else count)
    if not isinstance(value, list):
        return None
    numbers = tuple(whole for item in value if (whole := integer(item)) is not None)
    if len(numbers) != len(value) or (count is not None and len(numbers) != count):
        return None
    return numbers


def shape(value: object) -> Shape | None:
    """A list of dimensions, each a natural number or None."""
    if not isinstance(value, list):
        return None
    dimensions: list[int | None] = []
    for item in value:
        size = integer(item)
        if item is not None and (size is None or size < 0):
            return None
        dimensions.append(size)
    return tuple(dimensions)


def plain(value: Any) -> Any:
    """The configuration without the markers that older Keras wrote for tuples and shapes.

    `{"class_name": "__tuple__", "items": [...]}` and `TensorShape` alike become lists. `value` has
    passed the depth limit, so recursion is bounded.
    """
    if isinstance(value, dict):
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            items = value["items"]
            return [plain(item) for item in items] if isinstance(items, list) else None
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def summary(value: object, length: int = 60) -> str:
    """A short, printable form of a name or value for an error line."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value)[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1] + "…"
