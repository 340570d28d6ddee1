"""External data of an ONNX model: which file a tensor points to, and whether that may be read."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from auditor.finding import Severity
from auditor.formats.onnx_tensors import ExternalTensor, FileStamp, stored_bytes
from auditor.hazard import Hazard

#: The keys that onnx.proto defines for `external_data`; `basepath` is written by old releases.
KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
DRIVE = re.compile(r"[A-Za-z]:")
MAX_INTEGER_DIGITS = 19


@dataclass(frozen=True, kw_only=True)
class External:
    """What became of a reference to external data: a reader, or why there is none."""

    reader: ExternalTensor | None = None
    why: str = ""
    hazard: Hazard | None = None


def resolve_external(
    name: str,
    entries: tuple[tuple[str, str], ...],
    folder: Path | None,
    data_type: int,
    shape: tuple[int, ...],
) -> External:
    """Follow tensor `name`'s `entries` within `folder`, the model's own; None where it has none.

    Nothing of the data is read. A location that leaves the folder, by its text or by a link, is a
    hazard and gets no reader; so do keys and numbers that onnx.proto does not allow.
    """
    keys = dict(entries)
    location = keys.get("location", "")
    hazard = _bad_keys(name, entries) or _bad_location(name, location)
    if hazard is not None:
        return External(hazard=hazard, why=hazard.what)
    if folder is None:
        return External(why="its values are in an external file, and the model was given alone")
    path = folder / location
    hazard = _bad_path(name, folder, location)
    if hazard is not None:
        return External(hazard=hazard, why=hazard.what)
    try:
        status = path.lstat()
    except OSError:
        return External(why=f"its external data file {location!r} is missing")
    if not stat.S_ISREG(status.st_mode):
        return External(why=f"its external data {location!r} is not a plain file")
    needed = stored_bytes(data_type, shape)
    offset = int(keys.get("offset") or 0)
    length = int(keys.get("length") or 0) or needed or 0
    if needed is None or length != needed:
        return External(why=f"its shape needs {needed} bytes, its external data has {length}")
    if offset + length > status.st_size:
        return External(
            why=f"{location!r} has {status.st_size} bytes, the tensor ends at {offset + length}"
        )
    stamp = FileStamp(size=status.st_size, modified_ns=status.st_mtime_ns)
    return External(
        reader=ExternalTensor(
            path=path, stamp=stamp, offset=offset, length=length, data_type=data_type, shape=shape
        )
    )


def _bad_keys(name: str, entries: tuple[tuple[str, str], ...]) -> Hazard | None:
    seen: set[str] = set()
    for key, value in entries:
        if key not in KEYS or key in seen:
            what = f"external data has the key {key!r}" + (" twice" if key in seen else "")
        elif key in ("offset", "length") and not _is_size(value):
            what = f"external data has the {key} {value[:40]!r}, which is no size"
        else:
            seen.add(key)
            continue
        return Hazard(
            code="GEB906",
            place=f"tensor {name!r}",
            what=f"{what}; libraries have set attributes and read memory by such entries",
            identifier="CVE-2026-34445",
        )
    return None


def _is_size(value: str) -> bool:
    return not value or (value.isascii() and value.isdigit() and len(value) <= MAX_INTEGER_DIGITS)


def _bad_location(name: str, location: str) -> Hazard | None:
    """The location's text alone: absolute, or climbing."""
    if not location or "\0" in location:
        return _escape(name, location, "which names no file", "CVE-2022-25882")
    if location.startswith("/") or "\\" in location or DRIVE.match(location):
        return _escape(name, location, "which is not a path within the folder", "CVE-2022-25882")
    if ".." in location.split("/"):
        return _escape(name, location, "which climbs out of the folder", "CVE-2024-27318")
    return None


def _bad_path(name: str, folder: Path, location: str) -> Hazard | None:
    """The location as it stands on disk: links on the way, or a second name of the file."""
    path = folder
    for part in Path(location).parts:
        path = path / part
        try:
            status = path.lstat()
        except (OSError, ValueError):
            return None
        if stat.S_ISLNK(status.st_mode):
            return _escape(name, location, f"where {part!r} is a link", "CVE-2026-27489")
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            # Installers that link out of a cache make these too, hence no error.
            return _escape(
                name,
                location,
                "which has other names elsewhere on the disk (hard links)",
                "CVE-2026-34446",
                Severity.WARNING,
            )
    if os.path.commonpath((folder.resolve(), path.resolve())) != str(folder.resolve()):
        return _escape(name, location, "which lies outside the folder", "CVE-2024-27318")
    return None


def _escape(
    name: str, location: str, why: str, identifier: str, severity: Severity = Severity.ERROR
) -> Hazard:
    return Hazard(
        code="GEB903",
        place=f"tensor {name!r}",
        what=f"its values are to be read from {location[:200]!r}, {why}; they were not read",
        identifier=identifier,
        severity=severity,
    )
