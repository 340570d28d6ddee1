"""What a Keras configuration names to be looked up: imported, or expected to be registered.

Takes each object for what Keras' deserialization would: `{"module", "class_name", "config",
"registered_name"}` is a class or function to be looked up (imported, in unpatched versions),
wherever it stands. See `keras.src.saving.serialization_lib`.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Severity
from auditor.formats.config_place import Place
from auditor.formats.keras_compile import LEARNING_RATES
from auditor.formats.keras_layers import LAYERS, OPAQUE_LAYERS, WRAPPERS, is_keras_module
from auditor.formats.keras_operations import is_operation
from auditor.formats.known_names import (
    ALLOWED_PACKAGES,
    BUILTIN_MARKERS,
    COMMON_PACKAGES,
    FUNCTION_MODULES,
    KERAS_FUNCTION_NAMES,
    LAYERS_ELSEWHERE,
    LEGACY_LAYERS,
    MARKERS,
    MODELLING_ELSEWHERE,
    MODULE_PREFIXES,
    NOT_MODELLING,
    RESOLVERS,
)
from auditor.formats.standard_library import is_standard
from auditor.formats.tensorflow_functions import tensorflow_hazards
from auditor.formats.untrusted import summary, text
from auditor.hazard import Hazard

IMPORT, CUSTOM = "GEB902", "GEB910"
#: Keys under which Lambda layers of Keras 2 name modules beside the one of their own object.
MODULE_KEYS = frozenset({"fn_module", "function_module", "mask_module", "output_shape_module"})
#: What TensorFlow calls the classes that specify a type: "TensorSpec".
TYPE_SPEC = re.compile(r"[A-Z][A-Za-z0-9]*Spec(V[0-9]+)?")
#: What Keras names an optimizer's module by in the files of models compiled on PyTorch.
BACKEND_OPTIMIZERS = re.compile(r"keras\.src\.backend\.torch\.optimizers\.torch_([a-z]+)")
KNOWN_LAYERS = frozenset(
    {*LAYERS, *OPAQUE_LAYERS, *WRAPPERS, *LEGACY_LAYERS, "Sequential", "Functional", "Model"}
)
#: Advisories of Keras' own functions in a configuration, by a function that they name.
GADGETS = {"enable_unsafe_deserialization": "CVE-2025-9906", "load_model": "CVE-2025-9906"}


def import_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """What an object names to be looked up outside of what makes up a Keras model."""
    kind, module = text(value["class_name"]), text(value.get("module"))
    if kind in MARKERS:
        yield from _marker_hazards(value, place, kind, module)
    elif kind == "__lambda__":
        return
    elif kind == "function":
        yield from _function_hazards(value, place, module)
    elif module == "builtins":
        if kind not in BUILTIN_MARKERS:
            yield _builtin(kind, place)
    elif module and not is_allowed(module):
        # Were it registered under another name, the module is imported where that name is not.
        yield _foreign(module, kind, place)
    elif module and _is_gadget(module, kind.rsplit(">", 1)[-1]):
        yield _gadget(module, kind, place)
    else:
        yield from _custom_hazards(value, place, kind, module)
        yield from tensorflow_hazards(value, place)


def module_key_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """Modules that a Lambda layer's configuration names for its functions."""
    if MODULE_KEYS.isdisjoint(value) and "function" not in value:
        return
    keys = {*MODULE_KEYS, "module"} if "function" in value else MODULE_KEYS
    for key in sorted(keys):
        module = text(value.get(key))
        # A module of the code's own is no more than the code, which is told already.
        if module and not is_allowed(module) and module != "builtins":
            name = text(value.get("function")) if key == "module" else ""
            hazard = _foreign(module, name, place)
            if hazard.severity is Severity.ERROR:
                yield hazard


def _marker_hazards(
    value: Mapping[str, Any], place: Place, kind: str, module: str
) -> Iterator[Hazard]:
    """A marker of a value, of which only a type's specification is looked up, by a module.

    Releases differ in what they take for a marker: what one reads as a value, another imports.
    """
    name = text(value.get("spec_name")) if kind == "__typespec__" else kind
    if not module or (module == "builtins" and kind != "__typespec__"):
        return
    if kind == "__typespec__" and TYPE_SPEC.fullmatch(name):
        if not is_allowed(module) and not _within(module, "tensorflow"):
            yield _foreign(module, name, place)
    elif not is_allowed(module):
        yield _foreign(module, name, place)
    elif kind == "__typespec__":
        yield _gadget(module, name, place)


def _custom_hazards(
    value: Mapping[str, Any], place: Place, kind: str, module: str
) -> Iterator[Hazard]:
    """A custom class behind a class name: registered under "package>Name", or of no module."""
    registered = text(value.get("registered_name"))
    for name in (registered, kind):
        package, mark, _ = name.partition(">")
        if mark and not is_allowed(package) and not _is_own_optimizer(name, place):
            yield _custom(name, place)
            return
    if registered and registered != kind and ">" not in registered and is_keras_module(module):
        yield _custom(registered, place)
    elif kind not in KNOWN_LAYERS and not module and _is_looked_up(value, place, kind):
        yield _custom(kind, place)


def _is_own_optimizer(name: str, place: Place) -> bool:
    """Whether it is an optimizer of Keras' own, which 2.12 and later write as "Custom>Adam"."""
    package, _, kind = name.partition(">")
    return (
        place.step == "optimizer_config" and package == "Custom" and kind.lower() in LEARNING_RATES
    )


def _is_looked_up(value: Mapping[str, Any], place: Place, kind: str) -> bool:
    """Whether a class without a module is none of Keras' own.

    Keras 3 writes the module as none where it could not find the class again. HDF5 files write no
    modules at all; there only what stands among a model's layers is known to be a layer.
    """
    if "module" in value:
        return True
    # Until 2.2, a Sequential's configuration was the list of its layers.
    above = "" if place.above is None else place.above.step
    listed = above == "layers" or (above == "config" and isinstance(place.step, int))
    return listed and not is_operation(kind)


def _function_hazards(value: Mapping[str, Any], place: Place, module: str) -> Iterator[Hazard]:
    name = text(value.get("config")) or text(value.get("registered_name"))
    if module in ("", "builtins"):
        if name in RESOLVERS:
            yield _gadget("keras.losses", name, place)
        elif hasattr(builtins, name) and name not in KERAS_FUNCTION_NAMES:
            yield _builtin(name, place)
        elif name not in KERAS_FUNCTION_NAMES:
            yield _custom(name, place)
    elif is_keras_module(module):
        known = _part(module) in FUNCTION_MODULES and name not in RESOLVERS
        if not known and name not in KERAS_FUNCTION_NAMES:
            yield _gadget(module, name, place)
    elif is_allowed(module):
        # Registered functions are found by their names; any other would be imported.
        if ">" not in name:
            yield _gadget(module, name, place)
    else:
        yield _foreign(module, name, place)


def _is_gadget(module: str, kind: str) -> bool:
    """Whether a name of Keras' own is that of no class that belongs into a model."""
    part = _part(module)
    if part in NOT_MODELLING:
        return kind not in MODELLING_ELSEWHERE and not _is_backends_optimizer(module, kind)
    if kind.lstrip("_")[:1].isupper():
        return False
    return part not in FUNCTION_MODULES or kind in RESOLVERS


def _is_backends_optimizer(module: str, kind: str) -> bool:
    """Whether it is an optimizer of Keras' own as PyTorch's backend names it: "torch_adam.Adam"."""
    found = BACKEND_OPTIMIZERS.fullmatch(module)
    return found is not None and found[1] == kind.lower() and found[1] in LEARNING_RATES


def _part(module: str) -> str:
    """The part of Keras that a module belongs to: "losses" of "keras.src.losses.losses"."""
    segments = module.split(".")
    return next((segment for segment in segments if segment not in MODULE_PREFIXES), "")


def is_allowed(module: str) -> bool:
    """Whether a module belongs to Keras or to a library of its team."""
    return is_keras_module(module) or any(_within(module, package) for package in ALLOWED_PACKAGES)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_means(module: str, name: str) -> bool:
    """Whether a name is of a module that any environment has: a means, and nobody's own layer."""
    if any(
        re.fullmatch(modules, module) and re.fullmatch(layers, name)
        for modules, layers in LAYERS_ELSEWHERE
    ):
        return False
    top = module.partition(".")[0]
    return is_standard(module) or top in COMMON_PACKAGES or top == "tensorflow"


def _foreign(module: str, name: str, place: Place) -> Hazard:
    """A class or function of a module that is not Keras'."""
    full = summary(f"{module}.{name}" if name else module, 120)
    if _is_means(module, name):
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


def _builtin(name: str, place: Place) -> Hazard:
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names Python's own {summary(name)!r}: loading calls it",
        identifier="CVE-2025-1550",
    )


def _gadget(module: str, name: str, place: Place) -> Hazard:
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"names the function {summary(f'{module}.{name}', 120)!r}, which is no part of a "
        "model: loading may call it with arguments of the file's choice",
        identifier=GADGETS.get(name.rsplit(">", 1)[-1], "CVE-2025-8747"),
    )


def _custom(name: str, place: Place) -> Hazard:
    return Hazard(
        code=CUSTOM,
        place=str(place),
        what=f"needs the custom object {summary(name, 120)!r}, whose code is not in the file",
        severity=Severity.INFO,
    )
