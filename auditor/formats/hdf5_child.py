"""The process that the HDF5 library runs in: run as a script, importing nothing of geb-audit.

The library is native code, and a damaged or hostile file can crash it, hang it or fill memory, so
it never runs in the process of whoever audits. This script reads requests from standard input, one
JSON object a line, and answers each with a JSON line:

- `{"open": {…}}` begins a file. Where the system can fork, a fork answers for that one file, so
  that no file meets a process that another has touched; elsewhere the process ends with the file.
- `{"index": {…}}` gives every group and dataset: a tree of what is declared, with no values; and
  the library's version.
- `{"values": "/path"}` gives the shape and dtype of one dataset, and after the line its raw bytes.
- `{"close": true}` ends the file; the answer is how the fork ended.

Answers are `{"ok": …}`, `{"refused": {code, place, what, identifier}}` for what no model file holds
and a hostile one does, `{"damaged": "…"}`, or `{"memory": true}` where the bound was hit.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

#: A dataset that declares more than this must hold at least a thousandth of it.
BOMB_FLOOR = 2**32
BOMB_RATIO = 1000
#: Processor seconds of a fork, as a multiple of what one answer may take: it has several to give,
#: and is bounded from outside; this one is for when nobody is left there.
ANSWERS = 20


class Refused(Exception):
    """Something that no model file holds, and that is not followed."""

    def __init__(self, code: str, place: str, what: str, identifier: str = "") -> None:
        super().__init__(what)
        self.told = {"code": code, "place": place, "what": what, "identifier": identifier}


class Span(io.RawIOBase):
    """A read-only, seekable view of a span of a file: an HDF5 file stored in an archive."""

    def __init__(self, stream: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._stream, self._offset, self._size, self._position = stream, offset, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position of the span."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        """The position in the span."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the position on, as far as the span reaches."""
        wanted = max(min(len(buffer), self._size - self._position), 0)
        self._stream.seek(self._offset + self._position)
        chunk = self._stream.read(wanted) or b""
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)


class Walk:
    """One walk over all that an open file declares, within bounds."""

    def __init__(self, file: h5py.File, size: int, asked: dict[str, Any]) -> None:
        self._file, self._size = file, size
        self._attributes = tuple(asked["attributes"])
        self._objects, self._depth = int(asked["objects"]), int(asked["depth"])
        self._visited = 0

    def index(self) -> dict[str, Any]:
        """The tree of groups and datasets below the root, and the version of what reads it."""
        root = self._group(h5py.h5g.open(self._file.id, b"/"), "", frozenset())
        return {**root, "library": h5py.version.hdf5_version}

    def _group(
        self, group: h5py.h5g.GroupID, path: str, above: frozenset[tuple[int, int]]
    ) -> dict[str, Any]:
        info = h5py.h5o.get_info(group)
        itself = (info.fileno, info.addr)
        if itself in above:
            raise Refused("GEB909", path, "a group that holds itself")
        if len(above) > self._depth:
            raise Refused("GEB909", path, f"groups nested more than {self._depth} deep")
        members: dict[str, Any] = {}
        for name in group:
            self._visited += 1
            if self._visited > self._objects:
                raise Refused("GEB905", "/", f"more than {self._objects:,} groups and datasets")
            shown = name.decode("utf-8", "replace")
            place = f"{path}/{shown}"
            kind = group.links.get_info(name).type
            if kind != h5py.h5l.TYPE_HARD:
                what = "a soft link" if kind == h5py.h5l.TYPE_SOFT else "an external link"
                told = f"{what}: what is loaded is whatever it points to"
                raise Refused("GEB904", place, told, "CVE-2026-1669")
            member = h5py.h5o.open(group, name)
            if isinstance(member, h5py.h5g.GroupID):
                members[shown] = self._group(member, place, above | {itself})
            elif isinstance(member, h5py.h5d.DatasetID):
                members[shown] = self._dataset(member, place)
        return {"attributes": self._texts(group, path), "members": members}

    def _dataset(self, dataset: h5py.h5d.DatasetID, place: str) -> dict[str, Any]:
        plist = dataset.get_create_plist()
        if plist.get_external_count():
            what = "a dataset that keeps its values in another file"
            raise Refused("GEB904", place, what, "CVE-2026-1669")
        layout = plist.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            what = "a virtual dataset, put together from others"
            raise Refused("GEB904", place, what, "CVE-2026-1669")
        dtype = dataset.dtype
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            return {"shape": None, "dtype": dtype.str, "offset": None}
        declared, stored = math.prod(dataset.shape) * dtype.itemsize, dataset.get_storage_size()
        if declared > BOMB_FLOOR and declared > BOMB_RATIO * stored:
            what = f"a dataset that declares {declared:,} bytes and holds {stored:,}"
            raise Refused("GEB905", place, what, "CVE-2026-0897, CVE-2026-12570")
        # HDF5 keeps truth values as an enumeration of one byte, which is no array's own form.
        whole = layout == h5py.h5d.CONTIGUOUS and stored == declared > 0 and dtype.kind != "b"
        return {
            "shape": dataset.shape,
            "dtype": dtype.str,
            "offset": dataset.get_offset() if whole else None,
        }

    def _texts(self, group: h5py.h5g.GroupID, path: str) -> dict[str, list[str]]:
        """The wanted attributes that are strings or arrays of strings.

        A list too long for one attribute is kept in several: "layer_names0", "layer_names1", …
        """
        found: dict[str, list[str]] = {}
        for wanted in self._attributes:
            if h5py.h5a.exists(group, wanted.encode()):
                found[wanted] = self._text(group, wanted, path)
                continue
            chunk = 0
            while h5py.h5a.exists(group, f"{wanted}{chunk}".encode()):
                found.setdefault(wanted, []).extend(self._text(group, f"{wanted}{chunk}", path))
                chunk += 1
        return found

    def _text(self, group: h5py.h5g.GroupID, name: str, path: str) -> list[str]:
        attribute = h5py.h5a.open(group, name.encode())
        if attribute.get_type().get_class() != h5py.h5t.STRING:
            return []
        stored = attribute.get_storage_size()
        if stored > self._size or math.prod(attribute.shape) > stored:
            what = f"an attribute ({name}) that declares more than the file holds"
            raise Refused("GEB905", path or "/", what)
        value = h5py.AttributeManager(h5py.Group(group))[name]
        items = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
        return [
            item.decode("utf-8", "replace") if isinstance(item, bytes) else item
            for item in items
            if isinstance(item, (bytes, str)) and item
        ]


def serve() -> None:
    """Answer for one file after the other until standard input ends."""
    for line in iter(sys.stdin.buffer.readline, b""):
        opened = json.loads(line)["open"]
        if sys.platform == "win32":
            converse(opened)
            return
        child = os.fork()
        if not child:
            try:
                converse(opened)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        answer({"ended": os.waitstatus_to_exitcode(status)})


def converse(opened: dict[str, Any]) -> None:
    """Answer all requests about one file."""
    bound(opened["seconds"], opened["memory_bytes"])
    files: list[tuple[h5py.File, int]] = []

    def begin() -> dict[str, Any]:
        source, size = stream(opened)
        files.append((h5py.File(source, "r"), size))
        return {"ok": None}

    answer(guarded(begin))
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        if "close" in request:
            return
        file, size = files[0]
        if "index" in request:
            walk = Walk(file, size, request["index"])
            answer(guarded(lambda walk=walk: {"ok": walk.index()}))  # type: ignore[misc]
        else:
            send(file, request["values"])


def send(file: h5py.File, path: str) -> None:
    """Answer with the values of a dataset."""
    read: list[np.ndarray[Any, Any]] = []

    def values() -> dict[str, Any]:
        read.append(np.ascontiguousarray(file[path][()]))
        return {"ok": {"shape": read[0].shape, "dtype": read[0].dtype.str}}

    answer(guarded(values))
    for array in read:
        sys.stdout.buffer.write(array.tobytes())
        sys.stdout.buffer.flush()


def guarded(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer, whatever happens."""
    try:
        return ask()
    except Refused as refused:
        return {"refused": refused.told}
    except (MemoryError, RecursionError):
        return {"memory": True}
    # Damaged bytes make the library raise nearly any exception.
    except Exception as error:
        return {"damaged": f"{type(error).__name__}: {error}"}


def stream(opened: dict[str, Any]) -> tuple[Any, int]:
    """The HDF5 file's bytes, never extracted to disk, and how many there are."""
    path, member = Path(opened["path"]), opened["member"]
    if member is None:
        return path, path.stat().st_size
    if opened["span"] is None:
        with zipfile.ZipFile(path) as archive, archive.open(member) as inflated:
            data = inflated.read(opened["inflated_bytes"])
        return io.BytesIO(data), len(data)
    offset, size = opened["span"]
    return io.BufferedReader(Span(path.open("rb", buffering=0), offset, size), 2**16), size


def bound(seconds: float, memory_bytes: int) -> None:
    """Bound processor time and address space, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    wanted = {resource.RLIMIT_CPU: math.ceil(seconds) * ANSWERS, resource.RLIMIT_AS: memory_bytes}
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        try:
            resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))
        except (OSError, ValueError):  # macOS names RLIMIT_AS and sets none
            continue


def answer(message: dict[str, Any]) -> None:
    """Write one answer."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
