"""A JSON document of bounded size and depth."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.refusal import refusal
from auditor.formats.untrusted import summary


def parse_json(data: bytes | str, place: str, limits: Limits) -> Any:
    """The document's value. `place` names it in messages ("config.json").

    Raises `UnreadableModel` for what is not JSON, `UnsafeModel` for what exceeds the limits or
    gives one object the same key twice.
    """
    if len(data) > limits.json_bytes:
        raise refusal(
            "GEB905",
            place,
            f"it is {len(data) / 2**20:,.0f} MiB of JSON; configurations above "
            f"{limits.json_bytes / 2**20:,.0f} MiB are not read",
        )
    _check_count(data, place, limits)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise refusal(
                "GEB906",
                place,
                f"an object has the key {summary(twice)!r} more than once, so that two readers "
                "may see two models",
            )
        return found

    try:
        value = json.loads(data, object_pairs_hook=once)
    except RecursionError:
        raise _too_deep(place, limits) from None
    except ValueError as error:  # a JSONDecodeError, bytes that are no text, or endless digits
        raise UnreadableModel(
            f"{place} is not valid JSON; the file is damaged: save the model again",
            detail=str(error),
        ) from None
    _check_depth(value, place, limits)
    return value


def _check_count(data: bytes | str, place: str, limits: Limits) -> None:
    """Refuse more values than are meant: two bytes of JSON become a hundred in memory."""
    if isinstance(data, str):
        count = sum(map(data.count, ",[{"))
    else:
        count = sum(map(data.count, (b",", b"[", b"{")))
    if count > limits.json_values:
        raise refusal(
            "GEB905",
            place,
            f"it holds {count:,} values; configurations of more than {limits.json_values:,} are "
            "not read",
        )


def _check_depth(value: Any, place: str, limits: Limits) -> None:
    level, depth = [value] if isinstance(value, (dict, list)) else [], 1
    while level:
        if depth > limits.json_depth:
            raise _too_deep(place, limits)
        below: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            below.extend(child for child in children if isinstance(child, (dict, list)))
        level, depth = below, depth + 1


def _too_deep(place: str, limits: Limits) -> UnsafeModel:
    return refusal("GEB909", place, f"it is nested more than {limits.json_depth} levels deep")
