"""Pickles in an archive: found by their first bytes, never unpickled.

A pickle is a program. Keras itself reads none today, but its releases before 3.12 unpickled weights
kept as .npz, and assets of custom layers are read by whatever code those layers come with.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import IO

from auditor.errors import UnreadableModel
from auditor.finding import Severity
from auditor.formats.archive import Archive, SpanStream
from auditor.formats.limits import Limits
from auditor.formats.untrusted import summary
from auditor.formats.zip_listing import find_listing
from auditor.hazard import Hazard

CODE = "GEB907"
#: Of a member, the bytes that are looked at.
HEAD = 4096
#: A compressed archive within the archive that is larger is not looked into.
MOST_INFLATED = 64 * 2**20
#: What Keras reads for weights when there is no model.weights.h5.
WEIGHTS = "model.weights.npz"
#: What the reader parses itself, or that cannot be a pickle because it is parsed as HDF5.
OTHERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
#: A type of objects in the header of an .npy file.
OBJECTS = re.compile(rb"'\|?O\d*'")
#: The beginning of a pickle of protocol 0 or 1 that names something to import.
GLOBAL = re.compile(rb"[(\]}l]*(?:p\d+\n|q.)?c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")
#: Operations that a binary pickle must begin with before its head is taken for one.
FIRST_OPERATIONS = 3


def pickle_hazards(archive: Archive, limits: Limits) -> tuple[Hazard, ...]:
    """The members of a `.keras` archive that are pickles, or hold some."""
    return tuple(
        hazard
        for name in archive.names
        if name not in OTHERS and not name.endswith("/")
        for hazard in _member_hazards(archive, name, limits)
    )


def _member_hazards(archive: Archive, name: str, limits: Limits) -> Iterator[Hazard]:
    head = archive.head(name, HEAD)
    what = pickled(head)
    if what:
        yield _hazard(name, f"archive member {summary(name)!r}", what)
    if not head.startswith(ZIP_MAGIC):
        return
    for inner, what in _inner(archive, name, limits):
        yield _hazard(name, f"archive member {summary(name)!r}: {summary(inner)!r}", what)


def pickled(head: bytes) -> str:
    """What pickle the first bytes of a file are of; empty when of none."""
    if head.startswith(NPY_MAGIC):
        return "an array of pickled objects" if OBJECTS.search(head[:HEAD]) else ""
    if GLOBAL.match(head):
        return "a pickle"
    return "a pickle" if head[:1] == b"\x80" and head[1:2] <= b"\x05" and _runs(head) else ""


def _runs(head: bytes) -> bool:
    """Whether the bytes are a pickle's operations, as far as they go."""
    count = 0
    try:
        for _ in pickletools.genops(io.BytesIO(head)):
            count += 1
            if count > FIRST_OPERATIONS:
                return True
    except Exception:
        # pickletools raises nearly anything on bytes that are no pickle, or a cut one.
        return count >= FIRST_OPERATIONS
    return True


def _inner(archive: Archive, name: str, limits: Limits) -> Iterator[tuple[str, str]]:
    """Pickles in an archive within the archive."""
    span = archive.span(name)
    if span is None and archive.size(name) > MOST_INFLATED:
        yield "", "a compressed archive too large to be looked into"
        return
    source: IO[bytes]
    if span is None:
        source = io.BytesIO(archive.head(name, MOST_INFLATED))
    else:
        source = io.BufferedReader(SpanStream(archive.path, span))
    with source:
        try:
            find_listing(source, limits)
            with zipfile.ZipFile(source) as inner:
                for info in inner.infolist():
                    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        continue
                    with inner.open(info) as stream:
                        what = pickled(stream.read(HEAD))
                    if what:
                        yield info.filename, what
        except (UnreadableModel, zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            yield "", "an archive that cannot be looked into"
        except Exception:
            # zipfile raises whatever its decompressors do, and RuntimeError for encryption.
            yield "", "an archive that cannot be looked into"


def _hazard(name: str, place: str, what: str) -> Hazard:
    weights = name == WEIGHTS
    if weights:
        what = f"{what}, which releases of Keras before 3.12 unpickle: that runs the code it holds"
    else:
        what = f"{what}: whatever unpickles it runs the code it holds"
    return Hazard(
        code=CODE,
        place=place,
        what=what,
        severity=Severity.ERROR if weights else Severity.WARNING,
    )
