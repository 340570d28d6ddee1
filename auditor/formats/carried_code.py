"""Code that a Keras configuration carries: Lambda layers, marshalled functions, pickled modules."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Severity
from auditor.formats.config_place import Place
from auditor.formats.known_names import KERAS_FUNCTION_NAMES
from auditor.formats.untrusted import mapping, summary, text
from auditor.hazard import Hazard

CODE, PICKLE, IMPORT = "GEB901", "GEB907", "GEB902"
#: Both are of Lambda layers; the second, of those loaded where nobody set a safe mode.
LAMBDA = "CVE-2024-3660, CVE-2026-12481"
#: The loader of whole HDF5 files had no safe mode at all.
LAMBDA_IN_HDF5 = "CVE-2025-9905, CVE-2024-3660"


def bare_name(value: Mapping[str, Any]) -> str:
    """The class an object names, without the package it is registered under."""
    return text(value.get("class_name")).rsplit(">", 1)[-1]


def code_hazards(value: Mapping[str, Any], place: Place, *, told: bool) -> Iterator[Hazard]:
    """The code that an object carries itself.

    `told` says that it stands within a Lambda layer which was told with all that it carries.
    """
    kind = bare_name(value)
    identifier = LAMBDA if place.document.endswith(".json") else LAMBDA_IN_HDF5
    if kind == "Lambda" and is_lambda_of_code(value):
        yield Hazard(
            code=CODE,
            place=str(place),
            what="a Lambda layer carries compiled Python code, which runs when it is loaded",
            identifier=identifier,
        )
    elif kind == "Lambda":
        yield from _named_function_hazards(value, place)
    elif kind == "Merge" and _is_merge_of_code(value):
        yield Hazard(
            code=CODE,
            place=str(place),
            what="a Merge layer carries compiled Python code, which runs when it is loaded",
            identifier=identifier,
        )
    elif kind == "__lambda__" and not told:
        yield Hazard(
            code=CODE,
            place=str(place),
            what="compiled Python code, which runs when the model is loaded",
            identifier=identifier,
        )
    elif kind == "TorchModuleWrapper":
        yield Hazard(
            code=PICKLE,
            place=str(place),
            what="a pickled torch module: unpickling it runs whatever code it holds",
            identifier="CVE-2025-49655",
        )


def is_lambda_of_code(value: Mapping[str, Any]) -> bool:
    """Whether an object is a Lambda layer that carries its code, or does not say whose it calls."""
    if bare_name(value) != "Lambda":
        return False
    config = mapping(value.get("config"))
    for key in ("function", "output_shape", "mask"):
        given = config.get(key)
        if isinstance(given, dict) and given.get("class_name") == "__lambda__":
            return True
        # Keras 2 wrote [code, defaults, closure].
        if key == "function" and isinstance(given, list):
            return True
        kind = config.get(f"{key}_type")
        # A raw output shape is a list of numbers; a raw function is nobody knows what.
        if kind == "lambda" or (kind == "raw" and key == "function"):
            return True
    return not _named_function(config)


def _is_merge_of_code(value: Mapping[str, Any]) -> bool:
    """Whether a merge of Keras 1 is one by a function that it carries."""
    config = mapping(value.get("config"))
    return any(config.get(f"{key}_type") == "lambda" for key in ("mode", "output_shape"))


def _named_function(config: Mapping[str, Any]) -> str:
    """The name of the function that a Lambda layer refers to; empty when there is none."""
    function = config.get("function")
    if isinstance(function, dict) and function.get("class_name") == "function":
        return text(function.get("config"))
    return text(function)


def _named_function_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    name = _named_function(mapping(value.get("config")))
    if hasattr(builtins, name) and name not in KERAS_FUNCTION_NAMES:
        yield Hazard(
            code=IMPORT,
            place=str(place),
            what=f"a Lambda layer calls Python's own {summary(name)!r}",
            identifier="CVE-2025-1550",
        )
        return
    yield Hazard(
        code=CODE,
        place=str(place),
        what=f"a Lambda layer calls the function {summary(name)!r} by its name: Python code that "
        "the file does not show",
        severity=Severity.WARNING,
    )
