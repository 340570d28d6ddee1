"""What in a Keras configuration could harm whoever loads it: found by looking, decoding nothing.

The walk covers every object at every depth, compile settings included, and does not depend on the
graph being understood. What it looks for: code (`carried_code`), names to import
(`named_imports`), ways out of the file (`outside_references`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from auditor.finding import Severity
from auditor.formats.carried_code import code_hazards, is_lambda_of_code
from auditor.formats.config_place import Place
from auditor.formats.known_names import MARKERS
from auditor.formats.named_imports import import_hazards, module_key_hazards
from auditor.formats.outside_references import address_hazards, name_hazards, reference_hazards
from auditor.hazard import Hazard

#: Hazards of one code and severity that are told one by one; a file can hold a million.
MOST = 50


def config_hazards(config: object, document: str) -> tuple[Hazard, ...]:
    """The hazards in a configuration.

    What is no error is told once, with the number of places it stands in; of errors, the first
    `MOST` of each code are told one by one.

    Args:
        config: a JSON value; its depth is bounded by whoever parsed it.
        document: its name, for the hazards' places ("config.json").
    """
    told: dict[tuple[str, ...], Hazard] = {}
    alike: Counter[tuple[str, ...]] = Counter()
    kinds: Counter[tuple[str, Severity]] = Counter()
    for hazard in _walk(config, document):
        place = hazard.place if hazard.severity is Severity.ERROR else ""
        key = (hazard.code, hazard.severity, hazard.what, hazard.identifier, place)
        if key in told:
            alike[key] += 1
            continue
        kind = (hazard.code, hazard.severity)
        kinds[kind] += 1
        if kinds[kind] <= MOST:
            told[key] = hazard
    found = tuple(_counted(hazard, alike[key]) for key, hazard in told.items())
    return (*found, *_left_out(kinds, document))


def _counted(hazard: Hazard, more: int) -> Hazard:
    if more == 0 or hazard.severity is Severity.ERROR:
        return hazard
    return replace(hazard, place=f"{hazard.place} and {more} more")


def _left_out(kinds: Counter[tuple[str, Severity]], document: str) -> Iterator[Hazard]:
    for (code, severity), count in kinds.items():
        if count > MOST:
            what = f"{count - MOST:,} more hazards of this kind, which are not told one by one"
            yield Hazard(code=code, place=document, what=what, severity=severity)


def _walk(config: object, document: str) -> Iterator[Hazard]:
    # What stands where in which place, and whether a Lambda layer around it was told with it.
    waiting: list[tuple[Any, str | int, Place | None, bool]] = [(config, document, None, False)]
    while waiting:
        value, step, above, told = waiting.pop()
        if isinstance(value, dict):
            place = Place(step, above, value)
            is_object = isinstance(value.get("class_name"), str)
            yield from _object_hazards(value, place, told, is_object=is_object)
            # A Lambda layer that carries code is told once, with all of it.
            inside = is_lambda_of_code(value) if is_object else told
            waiting.extend(
                (item, key, place, inside)
                for key, item in reversed(value.items())
                if isinstance(item, (dict, list))
            )
        elif isinstance(value, list):
            place = Place(step, above)
            waiting.extend(
                (value[index], index, place, told)
                for index in range(len(value) - 1, -1, -1)
                if isinstance(value[index], (dict, list))
            )


def _object_hazards(
    value: Mapping[str, Any], place: Place, told: bool, *, is_object: bool
) -> Iterator[Hazard]:
    # A marker is a value, and most objects are: with no module there is nothing to look up.
    if is_object and (value["class_name"] not in MARKERS or value.get("module")):
        yield from code_hazards(value, place, told=told)
        yield from import_hazards(value, place)
        yield from reference_hazards(value, place)
    yield from module_key_hazards(value, place)
    yield from address_hazards(value, place)
    yield from name_hazards(value, place)
