"""External data of an ONNX model: which file a tensor points to, and whether that may be read."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from auditor.finding import Severity
from auditor.formats.onnx_data_file import DataFile, FileStamp, is_plain, open_below
from auditor.formats.onnx_tensors import RawTensor, stored_bytes
from auditor.hazard import Hazard

#: The keys that onnx.proto defines for `external_data`; `basepath` is written by old releases.
KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
DRIVE = re.compile(r"[A-Za-z]:")
MAX_INTEGER_DIGITS = 19
#: The folder that a Hugging Face cache links its snapshots' files to.
BLOBS = "blobs"


@dataclass(frozen=True, kw_only=True)
class External:
    """What became of a reference to external data: a reader, or why there is none."""

    reader: RawTensor | None = None
    why: str = ""
    hazard: Hazard | None = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a location is: a file, or a reason it is not read. `cause` makes the reason a hazard."""

    file: DataFile | None = None
    why: str = ""
    cause: _Cause | None = None


@dataclass(frozen=True, kw_only=True)
class _Cause:
    why: str
    identifier: str
    severity: Severity = Severity.ERROR


@dataclass(kw_only=True)
class ExternalData:
    """The external data files of one model, in its own `folder`; None where it has none.

    A file is looked at once, however many tensors point to it.
    """

    folder: Path | None
    files: dict[str, _Found] = field(default_factory=dict)

    def resolve(
        self,
        name: str,
        entries: tuple[tuple[str, str], ...],
        data_type: int,
        shape: tuple[int, ...],
    ) -> External:
        """Follow tensor `name`'s `entries`. Nothing of the data is read.

        A location that leaves the folder, by its text or by a link, is a hazard and gets no
        reader; so do keys and numbers that onnx.proto does not allow.
        """
        keys = dict(entries)
        location = keys.get("location", "")
        hazard = _bad_keys(name, entries)
        if hazard is None and (cause := _bad_location(location)) is not None:
            hazard = _escape(name, location, cause)
        if hazard is not None:
            return External(hazard=hazard, why=hazard.what)
        if self.folder is None:
            return External(why="its values are in an external file, and the model came alone")
        if location not in self.files:
            self.files[location] = _find(self.folder, location)
        found = self.files[location]
        if found.cause is not None:
            hazard = _escape(name, location, found.cause)
            return External(hazard=hazard, why=hazard.what)
        if found.file is None:
            return External(why=found.why)
        return _within(name, found.file, keys, data_type, shape)

    @property
    def size(self) -> int:
        """Bytes of all files that may be read."""
        return sum(found.file.stamp.size for found in self.files.values() if found.file)


def _within(
    name: str, file: DataFile, keys: dict[str, str], data_type: int, shape: tuple[int, ...]
) -> External:
    """The part of a file that holds the tensor, if the file has it."""
    needed = stored_bytes(data_type, shape)
    offset = int(keys.get("offset") or 0)
    length = int(keys.get("length") or 0) or needed or 0
    why = ""
    if needed is None or length != needed:
        why = f"its shape needs {needed} bytes, its external data has {length}"
    elif offset + length > file.stamp.size:
        why = f"{file.location!r} has {file.stamp.size} bytes, the tensor ends at {offset + length}"
    if why:
        hazard = Hazard(
            code="GEB906",
            place=f"tensor {name!r}",
            what=f"{why}; libraries have read memory beyond the data by such lengths",
            identifier="CVE-2024-27319",
        )
        return External(hazard=hazard, why=why)
    return External(
        reader=RawTensor(file=file, offset=offset, length=length, data_type=data_type, shape=shape)
    )


def _bad_keys(name: str, entries: tuple[tuple[str, str], ...]) -> Hazard | None:
    seen: set[str] = set()
    for key, value in entries:
        identifier = "CVE-2026-34445"
        if key not in KEYS or key in seen:
            what = f"external data has the key {key[:40]!r}"
            what += " twice" if key in seen else ""
        elif key in ("offset", "length") and not _is_size(value):
            what = f"external data has the {key} {value[:40]!r}, which is no size"
            identifier = "CVE-2024-27319"
        else:
            seen.add(key)
            continue
        return Hazard(
            code="GEB906",
            place=f"tensor {name!r}",
            what=f"{what}; libraries have set attributes and read memory by such entries",
            identifier=identifier,
        )
    return None


def _is_size(value: str) -> bool:
    return not value or (value.isascii() and value.isdigit() and len(value) <= MAX_INTEGER_DIGITS)


def _bad_location(location: str) -> _Cause | None:
    """The location's text alone: absolute, or climbing."""
    if not location or "\0" in location:
        return _Cause(why="which names no file", identifier="CVE-2022-25882")
    if location.startswith("/") or "\\" in location or DRIVE.match(location):
        return _Cause(why="which is not a path within the folder", identifier="CVE-2022-25882")
    if ".." in location.split("/"):
        return _Cause(why="which climbs out of the folder", identifier="CVE-2024-27318")
    if not PurePosixPath(location).parts:
        return _Cause(why="which names no file", identifier="CVE-2022-25882")
    return None


def _find(folder: Path, location: str) -> _Found:
    """The location as it stands on disk: links on the way, a second name, or the file."""
    cause = _link(folder, location)
    if cause is not None:
        return _Found(cause=cause)
    try:
        descriptor = open_below(folder, location)
    except FileNotFoundError:
        return _Found(why=f"its external data file {location!r} is missing")
    except OSError as error:
        return _Found(why=f"its external data {location!r} cannot be read: {error.strerror}")
    try:
        if not is_plain(descriptor):
            return _Found(why=f"its external data {location!r} is not a plain file")
        if os.fstat(descriptor).st_nlink > 1:
            # Installers that link out of a cache make these too, hence no error.
            return _Found(
                cause=_Cause(
                    why="which has other names elsewhere on the disk (hard links); if the model is "
                    "yours, copy the file to give it one name",
                    identifier="CVE-2026-34446",
                    severity=Severity.WARNING,
                )
            )
        stamp = FileStamp.of(descriptor)
    finally:
        os.close(descriptor)
    return _Found(file=DataFile(path=folder, location=location, stamp=stamp))


def _link(folder: Path, location: str) -> _Cause | None:
    """The first link on the way, told as what it is."""
    path = folder
    for part in PurePosixPath(location).parts:
        path = path / part
        try:
            status = path.lstat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISLNK(status.st_mode):
            continue
        why = f"where {part[:80]!r} is a link"
        if BLOBS in path.readlink().parts:
            why += " into the blobs of a cache, as Hugging Face keeps its files"
        return _Cause(
            why=f"{why}; if the model is yours, audit a copy of its folder with links resolved "
            "(cp -rL)",
            identifier="CVE-2026-27489, CVE-2026-34447",
        )
    return None


def _escape(name: str, location: str, cause: _Cause) -> Hazard:
    return Hazard(
        code="GEB903",
        place=f"tensor {name!r}",
        what=f"its values are to be read from {location[:200]!r}, {cause.why}; they were not read",
        identifier=cause.identifier,
        severity=cause.severity,
    )
