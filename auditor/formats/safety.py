"""What in a Keras configuration could harm whoever loads it: found by looking, decoding nothing.

The walk covers every object at every depth, compile settings included, and takes each for what
Keras' deserialization would: `{"module", "class_name", "config", "registered_name"}` is a class or
function to be looked up (imported, in unpatched versions), wherever it stands. It does not depend
on the graph being understood. See `keras.src.saving.serialization_lib`.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.finding import Severity
from auditor.formats.archive import escape
from auditor.formats.keras_layers import LAYERS, OPAQUE_LAYERS, WRAPPERS, is_keras_module
from auditor.formats.known_names import (
    ALLOWED_PACKAGES,
    BUILTIN_MARKERS,
    COMMON_PACKAGES,
    FUNCTION_MODULES,
    KERAS_FUNCTION_NAMES,
    MARKERS,
)
from auditor.formats.untrusted import summary, text
from auditor.hazard import Hazard

#: Keys under which Lambda layers of Keras 2 name modules beside the one of their own object.
MODULE_KEYS = ("fn_module", "function_module", "output_shape_module", "mask_module")
LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"})

KNOWN_LAYERS = frozenset({*LAYERS, *OPAQUE_LAYERS, *WRAPPERS, "Sequential", "Functional", "Model"})

CODE, IMPORT, PATH = "GEB901", "GEB902", "GEB903"


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in a document a value stands, kept as a chain: it is spelled out for hazards only."""

    step: str
    above: _Place | None = None
    name: str = ""

    def __str__(self) -> str:
        steps: list[str] = []
        name = ""
        place: _Place | None = self
        while place is not None:
            steps.append(place.step)
            name = name or place.name
            place = place.above
        path = "".join(reversed(steps)).lstrip(".")
        document, _, rest = path.partition("::")
        shown = summary(f"{document}: {rest.lstrip('.') or 'model'}", 160)
        return f"{shown} ({summary(name)})" if name else shown


def config_hazards(config: object, document: str) -> tuple[Hazard, ...]:
    """The hazards in a configuration.

    Args:
        config: a JSON value; its depth is bounded by whoever parsed it.
        document: its name, for the hazards' places ("config.json").
    """
    return tuple(dict.fromkeys(_walk(config, document)))


def _walk(config: object, document: str) -> Iterator[Hazard]:
    waiting: list[tuple[Any, _Place, bool]] = [(config, _Place(step=f"{document}::"), False)]
    while waiting:
        value, place, told = waiting.pop()
        if isinstance(value, list):
            below = [
                (item, _Place(step=f"[{i}]", above=place), told) for i, item in enumerate(value)
            ]
            waiting.extend(reversed(below))
        elif isinstance(value, dict):
            place = _named(value, place)
            # A Lambda layer is told once, with whatever code it carries.
            lambda_layer = _is_lambda_layer(value)
            yield from _object_hazards(value, place, told)
            inside = (told or lambda_layer) if not _is_object(value) or lambda_layer else False
            steps = [
                (item, _Place(step=f".{summary(key)}", above=place), inside)
                for key, item in value.items()
            ]
            waiting.extend(reversed(steps))


def _named(value: Mapping[str, Any], place: _Place) -> _Place:
    inner = value.get("config")
    name = text(inner.get("name")) if isinstance(inner, dict) else ""
    name = name or (text(value.get("name")) if _is_object(value) else "")
    return _Place(step=place.step, above=place.above, name=name) if name else place


def _is_object(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("class_name"), str)


def _is_lambda_layer(value: Mapping[str, Any]) -> bool:
    return text(value.get("class_name")).rsplit(">", 1)[-1] == "Lambda"


def _object_hazards(value: Mapping[str, Any], place: _Place, told: bool) -> Iterator[Hazard]:
    if _is_object(value):
        yield from _code_hazards(value, place, told)
        yield from _import_hazards(value, place)
        yield from _file_hazards(value, place)
    for key in MODULE_KEYS:
        module = text(value.get(key))
        if module and not _is_allowed(module) and module not in ("builtins", "__main__"):
            yield _foreign(module, "", place)
    inner = value.get("config") if _is_object(value) else None
    for holder in (value, inner):
        name = text(holder.get("name")) if isinstance(holder, dict) else ""
        reason = escape(name)
        if reason:
            yield Hazard(
                code=PATH,
                place=str(place),
                what=f"the name {summary(name)!r} {reason}; loaders that make a path of "
                "it write outside their folder",
                identifier="CVE-2026-12479",
            )


def _code_hazards(value: Mapping[str, Any], place: _Place, told: bool) -> Iterator[Hazard]:
    kind = text(value.get("class_name")).rsplit(">", 1)[-1]
    if _is_lambda_layer(value):
        named = _named_function(value.get("config"))
        if named:
            yield Hazard(
                code=CODE,
                place=str(place),
                what=f"a Lambda layer calls the function {summary(named)!r} by its name: Python "
                "code that the file does not show",
                severity=Severity.WARNING,
            )
        else:
            yield Hazard(
                code=CODE,
                place=str(place),
                what="a Lambda layer carries compiled Python code, which runs when it is loaded",
                identifier="CVE-2024-3660",
            )
    elif kind == "__lambda__" and not told:
        yield Hazard(
            code=CODE,
            place=str(place),
            what="compiled Python code, which runs when the model is loaded",
            identifier="CVE-2024-3660",
        )
    elif kind == "TorchModuleWrapper":
        yield Hazard(
            code=CODE,
            place=str(place),
            what="a pickled torch module: unpickling it runs whatever code it holds",
            identifier="CVE-2025-49655",
        )
    elif kind == "TFSMLayer":
        yield Hazard(
            code=CODE,
            place=str(place),
            what="a TFSMLayer loads and runs a TensorFlow SavedModel from a path on disk",
            identifier="CVE-2026-1462",
        )


def _named_function(config: object) -> str:
    """The name of the function that a Lambda layer refers to; empty when it carries code itself."""
    if not isinstance(config, dict) or _carries_code(config):
        return ""
    function = config.get("function")
    if isinstance(function, dict) and function.get("class_name") == "function":
        return text(function.get("config"))
    return text(function) if config.get("function_type", "function") == "function" else ""


def _carries_code(config: Mapping[str, Any]) -> bool:
    for key in ("function", "output_shape", "mask"):
        given = config.get(key)
        if isinstance(given, dict) and given.get("class_name") == "__lambda__":
            return True
        # Keras 2 wrote [code, defaults, closure].
        if key == "function" and isinstance(given, list):
            return True
        if config.get(f"{key}_type") == "lambda":
            return True
    return False


def _import_hazards(value: Mapping[str, Any], place: _Place) -> Iterator[Hazard]:
    kind, module = text(value["class_name"]), text(value.get("module"))
    if kind == "__typespec__":
        if module and not _is_allowed(module) and not _within(module, "tensorflow"):
            yield _foreign(module, text(value.get("spec_name")), place)
        return
    if kind in MARKERS or kind == "__lambda__":
        return
    if kind == "function":
        yield from _function_hazards(value, place, module)
        return
    if module == "builtins":
        if kind not in BUILTIN_MARKERS:
            yield _builtin(kind, place)
        return
    if module and not _is_allowed(module):
        yield _foreign(module, kind, place)
        return
    if is_keras_module(module) and not kind.rsplit(">", 1)[-1][:1].isupper():
        yield _gadget(module, kind, place)
        return
    yield from _registered_hazards(value, place, kind, module)


def _registered_hazards(
    value: Mapping[str, Any], place: _Place, kind: str, module: str
) -> Iterator[Hazard]:
    """A custom class behind a class name: registered under "package>Name", or of no module."""
    registered = text(value.get("registered_name"))
    for name in (registered, kind):
        package, mark, _ = name.partition(">")
        if mark and not _is_allowed(package):
            yield _custom(name, place)
            return
    if registered and registered != kind and ">" not in registered and is_keras_module(module):
        yield _custom(registered, place)
    elif "module" in value and value["module"] is None and kind not in KNOWN_LAYERS:
        yield _custom(kind, place)


def _function_hazards(value: Mapping[str, Any], place: _Place, module: str) -> Iterator[Hazard]:
    name = text(value.get("config")) or text(value.get("registered_name"))
    if module in ("", "builtins"):
        if hasattr(builtins, name) and name not in KERAS_FUNCTION_NAMES:
            yield _builtin(name, place)
        elif name not in KERAS_FUNCTION_NAMES:
            yield _custom(name, place)
        return
    if is_keras_module(module):
        parts = [part for part in module.split(".") if part not in ("tensorflow", "src")][1:]
        if not parts or parts[0] not in FUNCTION_MODULES:
            yield _gadget(module, name, place)
        return
    if not _is_allowed(module):
        yield _foreign(module, name, place)


def _file_hazards(value: Mapping[str, Any], place: _Place) -> Iterator[Hazard]:
    inner = value.get("config")
    if value.get("class_name") not in LOOKUPS or not isinstance(inner, dict):
        return
    vocabulary = inner.get("vocabulary")
    if isinstance(vocabulary, str) and vocabulary:
        yield Hazard(
            code=PATH,
            place=str(place),
            what=f"the vocabulary is read from {summary(vocabulary)!r}, a file outside the model",
            identifier="CVE-2025-12058",
            severity=Severity.WARNING,
        )


def _is_allowed(module: str) -> bool:
    return is_keras_module(module) or any(_within(module, package) for package in ALLOWED_PACKAGES)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _foreign(module: str, name: str, place: _Place) -> Hazard:
    """A class or function of a module that is not Keras'."""
    top = module.partition(".")[0]
    full = summary(f"{module}.{name}" if name else module, 120)
    means = (
        top in sys.stdlib_module_names or top in COMMON_PACKAGES or _within(module, "tensorflow")
    )
    if means and module != "__main__":
        return Hazard(
            code=IMPORT,
            place=str(place),
            what=f"names {full!r}, which is no part of Keras: loading imports and calls it",
            identifier="CVE-2025-1550",
        )
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names {full!r}, code of its own that loading the model needs",
        severity=Severity.WARNING,
    )


def _builtin(name: str, place: _Place) -> Hazard:
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names Python's own {summary(name)!r}: loading calls it",
        identifier="CVE-2025-1550",
    )


def _gadget(module: str, name: str, place: _Place) -> Hazard:
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names the function {summary(f'{module}.{name}', 120)!r}, which is no part of a "
        "model: loading may call it with arguments of the file's choice",
        identifier="CVE-2025-8747",
    )


def _custom(name: str, place: _Place) -> Hazard:
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names the custom object {summary(name, 120)!r}, which loading the model needs",
        severity=Severity.WARNING,
    )
