"""A JSON document of bounded size and depth."""

from __future__ import annotations

import json
from typing import Any

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits


def parse_json(data: bytes | str, place: str, limits: Limits) -> Any:
    """The document's value. `place` names it in messages ("config.json").

    Raises `UnreadableModel` for what is not JSON, `UnsafeModel` for what exceeds the limits.
    """
    if len(data) > limits.json_bytes:
        raise UnsafeModel(
            f"GEB905 resource-bomb: {place} is {len(data) / 2**20:,.0f} MiB of JSON; "
            f"configurations above {limits.json_bytes / 2**20:,.0f} MiB are not read"
        )
    try:
        value = json.loads(data)
    except RecursionError:
        raise _too_deep(place, limits) from None
    except ValueError as error:  # a JSONDecodeError, bytes that are no text, or endless digits
        raise UnreadableModel(
            f"{place} is not valid JSON; the file is damaged: save the model again",
            detail=str(error),
        ) from None
    _check_depth(value, place, limits)
    return value


def _check_depth(value: Any, place: str, limits: Limits) -> None:
    level, depth = [value], 0
    while level:
        if depth > limits.json_depth:
            raise _too_deep(place, limits)
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level, depth = below, depth + 1


def _too_deep(place: str, limits: Limits) -> UnsafeModel:
    return UnsafeModel(
        f"GEB909 recursion-or-nesting: {place} is nested more than {limits.json_depth} levels deep"
    )
