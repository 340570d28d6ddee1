"""What in a Keras configuration leads out of the model: files, addresses, names that are paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Severity
from auditor.formats.archive import escape
from auditor.formats.carried_code import bare_name
from auditor.formats.config_place import Place
from auditor.formats.named_imports import is_allowed
from auditor.formats.untrusted import mapping, summary, text
from auditor.hazard import Hazard

PATH, REFERENCE = "GEB903", "GEB908"
#: A scheme of two letters or more, so that a Windows drive is none.
ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]{1,30}://")
#: Settings that are the contents of a file or the name of one, as it happens.
FILE_KEYS = frozenset({"filename", "filepath", "merges", "proto", "vocabulary"})
FILE_ENDINGS = ("_file", "_filename", "_filepath", "_path")
#: The longest path that any system takes, in characters; what is longer is contents.
LONGEST_PATH = 4096
#: The longest text without a path's marks that is still taken for a file's name.
LONGEST_NAME = 255


def reference_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """Files and addresses that loading an object would read from."""
    config = mapping(value.get("config"))
    told = ""
    if bare_name(value) == "TFSMLayer":
        told = "filepath"
        where = summary(text(config.get("filepath"), "elsewhere"))
        yield Hazard(
            code=REFERENCE,
            place=str(place),
            what=f"a TFSMLayer loads and runs the TensorFlow SavedModel at {where!r}, "
            "which is not in the file",
            identifier="CVE-2026-1462",
        )
    for key, item in config.items():
        if isinstance(item, str) and _is_read(key, value) and key != told:
            yield from _file(key, item, place)


def address_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """Addresses among the settings of any object."""
    owner = _owner(place)
    for key, item in value.items():
        if isinstance(item, str) and "://" in item and ADDRESS.match(item):
            if owner is not None and _is_read(key, owner):
                continue
            yield Hazard(
                code=REFERENCE,
                place=str(Place(key, place)),
                what=f"names the address {summary(item, 120)!r}, which loading may fetch from",
                severity=Severity.WARNING,
            )


def name_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """A name that a loader or writer would take for a path out of its folder."""
    if _owner(place) is not None:
        return  # told with the object whose configuration it is
    names = {text(value.get("name")): None}
    if "class_name" in value:
        names[text(mapping(value.get("config")).get("name"))] = None
    for name in names:
        reason = escape(name)
        if reason:
            yield Hazard(
                code=PATH,
                place=str(place),
                what=f"the name {summary(name)!r} {reason}; loaders that make a path of "
                "it write outside their folder",
                identifier="CVE-2026-12479",
            )


def _owner(place: Place) -> Mapping[str, Any] | None:
    """The object whose configuration stands in a place, if one does."""
    above = None if place.above is None else place.above.holder
    return above if place.step == "config" and above and "class_name" in above else None


def _is_read(key: str, value: Mapping[str, Any]) -> bool:
    """Whether an object reads a file that a setting names.

    What a layer of somebody's own does with its settings is not known; vocabularies aside, which
    such layers hand to those of Keras.
    """
    if key == "vocabulary":
        return True
    if key not in FILE_KEYS and not key.endswith(FILE_ENDINGS):
        return False
    module = text(value.get("module")) or text(value.get("registered_name"))
    module = module or text(value.get("class_name"))
    kind = bare_name(value)
    return (
        kind == "TFSMLayer"
        or is_allowed(module.partition(">")[0])
        or (not value.get("module") and kind.endswith("Tokenizer"))
    )


def _file(key: str, name: str, place: Place) -> Iterator[Hazard]:
    """A file that an object reads.

    One beside the model is how older releases of Keras kept a vocabulary; one of a place of its
    own, or an address, is what the advisory is about. Patched releases read neither.
    """
    address = ADDRESS.match(name) is not None
    outside = address or bool(escape(name)) or name.startswith("~")
    # A vocabulary is never its own contents; the others are, in base64.
    longest = LONGEST_PATH if outside else LONGEST_NAME
    if not name or (key != "vocabulary" and len(name) > longest):
        return
    where = "an address" if address else "a file outside the model"
    yield Hazard(
        code=REFERENCE,
        place=str(place),
        what=f"the {key} is read from {summary(name, 120)!r}, {where}",
        identifier="CVE-2025-12058" if key == "vocabulary" else "",
        severity=Severity.ERROR if outside else Severity.WARNING,
    )
