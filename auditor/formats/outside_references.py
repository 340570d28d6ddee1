"""What in a Keras configuration leads out of the model: files, addresses, names that are paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Severity
from auditor.formats.archive import escape
from auditor.formats.carried_code import bare_name
from auditor.formats.config_place import Place
from auditor.formats.untrusted import mapping, summary, text
from auditor.hazard import Hazard

PATH, REFERENCE = "GEB903", "GEB908"
#: A scheme of two letters or more, so that a Windows drive is none.
ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]{1,30}://")
#: Keys that are told with what they mean to their layer.
TOLD = frozenset({"vocabulary", "filepath"})


def reference_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """Files and addresses that loading an object would read from."""
    config = mapping(value.get("config"))
    if bare_name(value) == "TFSMLayer":
        where = summary(text(config.get("filepath"), "elsewhere"))
        yield Hazard(
            code=REFERENCE,
            place=str(place),
            what=f"a TFSMLayer loads and runs the TensorFlow SavedModel at {where!r}, "
            "which is not in the file",
            identifier="CVE-2026-1462",
        )
    vocabulary = text(config.get("vocabulary"))
    if vocabulary:
        yield _vocabulary(vocabulary, place)


def address_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """Addresses among the settings of any object."""
    for key, item in value.items():
        if isinstance(item, str) and "://" in item and key not in TOLD and ADDRESS.match(item):
            yield Hazard(
                code=REFERENCE,
                place=str(Place(key, place)),
                what=f"names the address {summary(item, 120)!r}, which loading may fetch from",
                severity=Severity.WARNING,
            )


def name_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """A name that a loader or writer would take for a path out of its folder."""
    for holder in (value, mapping(value.get("config"))):
        name = text(holder.get("name"))
        reason = escape(name)
        if reason:
            yield Hazard(
                code=PATH,
                place=str(place),
                what=f"the name {summary(name)!r} {reason}; loaders that make a path of "
                "it write outside their folder",
                identifier="CVE-2026-12479",
            )


def _vocabulary(vocabulary: str, place: Place) -> Hazard:
    """A vocabulary that is the name of a file.

    A file beside the model is how older releases of Keras kept it; one of a place of its own, or
    an address, is what the advisory is about. Patched releases read neither.
    """
    outside = ADDRESS.match(vocabulary) is not None or bool(escape(vocabulary))
    where = "an address" if ADDRESS.match(vocabulary) else "a file outside the model"
    return Hazard(
        code=REFERENCE,
        place=str(place),
        what=f"the vocabulary is read from {summary(vocabulary, 120)!r}, {where}",
        identifier="CVE-2025-12058",
        severity=Severity.ERROR if outside else Severity.WARNING,
    )
