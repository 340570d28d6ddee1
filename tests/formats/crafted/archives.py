"""Zip archives that lead out of themselves, are bombs, or are two archives to two readers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .case import Bait, Case
from .keras_configs import keras_file, sequential

OTHER = sequential(name="other")
ESCAPES = "GHSA-hqp4-2352-xf5r"
#: Names of archive members that lead out of the archive.
NAMES = {
    "climbing": "../x",
    "climbing further in": "assets/../../x",
    "absolute": "/etc/x",
    "of a drive": "C:/x",
    "of a drive, with a backslash": "C:\\x",
    "with a backslash": "..\\x",
    "of a share": "\\\\host\\share",
    "with a NUL": "a\0b",
}


def whole(folder: Path, **members: bytes) -> bytes:
    """The bytes of a harmless archive."""
    return keras_file(folder, sequential(), members).read_bytes()


def patched(change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path, Bait], Path]:
    """A builder that changes a harmless archive's bytes."""

    def build(folder: Path, _: Bait) -> Path:
        path = folder / "model.keras"
        path.write_bytes(change(bytearray(whole(folder))))
        return path

    return build


def _named(name: str) -> Callable[[Path, Bait], Path]:
    def build(folder: Path, _: Bait) -> Path:
        # zipfile would tidy the name up, so a harmless one of its length is replaced in the bytes.
        stand_in = b"n" * len(name)
        data = whole(folder, **{stand_in.decode(): b"x"})
        path = folder / "model.keras"
        path.write_bytes(data.replace(stand_in, name.encode()))
        return path

    return build


def _member(info: zipfile.ZipInfo | str, data: bytes) -> Callable[[Path, Bait], Path]:
    """A harmless archive with one more member, of whatever name and kind."""

    def build(folder: Path, _: Bait) -> Path:
        path = keras_file(folder, sequential())
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(info, data)
        return path

    return build


def _special(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("assets/x")
    info.external_attr = mode << 16
    return info


def _bomb(name: str) -> Callable[[Path, Bait], Path]:
    return lambda folder, _: keras_file(
        folder, sequential(), {name: bytes(32 * 2**20)}, compression=zipfile.ZIP_DEFLATED
    )


def _lying_size(folder: Path, _: Bait) -> Path:
    """A configuration that declares a hundred bytes and inflates to 32 MiB."""
    path = keras_file(folder, " " * (32 * 2**20), compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for place in (data.index(b"config.json") - 30 + 22, _entry(data, b"config.json") + 24):
        struct.pack_into("<L", data, place, 100)
    path.write_bytes(data)
    return path


def _overlapping(folder: Path, _: Bait) -> Path:
    """Two entries of the listing for one member's bytes (Fifield 2019)."""
    path = keras_file(folder, sequential(), {"assets/a": bytes(64), "assets/b": bytes(64)})
    data = bytearray(path.read_bytes())
    a, b = _entry(data, b"assets/a"), _entry(data, b"assets/b")
    data[b + 42 : b + 46] = data[a + 42 : a + 46]
    path.write_bytes(data)
    return path


def _entry(data: bytes | bytearray, name: bytes) -> int:
    """Where a member's entry in the listing begins."""
    return data.index(name, data.index(b"PK\x01\x02")) - 46


def _other_local_name(data: bytearray) -> bytearray:
    place = data.index(b"config.json")
    data[place : place + 11] = b"CONFIG.json"
    return data


def _other_local_size(data: bytearray) -> bytearray:
    place = data.index(b"config.json") - 30
    struct.pack_into("<L", data, place + 22, 5)
    return data


def _prepended(data: bytearray) -> bytes:
    """An archive before the archive: offsets are told from where the second begins."""
    return _archive_of(OTHER) + bytes(data)


def _unlisted(data: bytearray) -> bytes:
    """A member before the first that is listed, with the offsets moved along."""
    hidden = _archive_of(OTHER)
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    moved = bytearray(hidden + data)
    place = len(hidden)
    while (place := moved.find(b"PK\x01\x02", place)) >= 0:
        offset = struct.unpack_from("<L", moved, place + 42)[0]
        struct.pack_into("<L", moved, place + 42, offset + len(hidden))
        place += 4
    end = moved.index(b"PK\x05\x06")
    listing = struct.unpack_from("<L", moved, end + 16)[0]
    struct.pack_into("<L", moved, end + 16, listing + len(hidden))
    return bytes(moved)


def _archive_of(config: object) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return stream.getvalue()


def _in_the_comment(data: bytearray) -> bytes:
    """A second archive as the comment of the first: both end the file."""
    other = _archive_of(OTHER)
    struct.pack_into("<H", data, data.index(b"PK\x05\x06") + 20, len(other))
    return bytes(data) + other


def _count(count: int) -> Callable[[bytearray], bytearray]:
    def change(data: bytearray) -> bytearray:
        struct.pack_into("<HH", data, data.index(b"PK\x05\x06") + 8, count, count)
        return data

    return change


def _zip64(field: int, value: int) -> Callable[[bytearray], bytes]:
    """Zip64 records that lie in one of their fields: 0 count, 1 size, 2 offset."""

    def change(data: bytearray) -> bytes:
        end = data.index(b"PK\x05\x06")
        count, size, offset = struct.unpack_from("<HLL", data, end + 10)
        told = [count, size, offset]
        told[field] = value
        records = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, *told)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
        return bytes(data[:end]) + records + locator + bytes(data[end:])

    return change


def _encrypted(data: bytearray) -> bytearray:
    for magic, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = data.index(magic)
        flags = struct.unpack_from("<H", data, place + at)[0]
        struct.pack_into("<H", data, place + at, flags | 1)
    return data


def _hdf5_with_a_zip_behind(folder: Path, _: Bait) -> Path:
    data = whole(folder)
    path = folder / "model.keras"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(56) + data)
    return path


def _zip_with_an_hdf5_behind(folder: Path, _: Bait) -> Path:
    data = whole(folder)
    (folder / "model.keras").unlink()
    path = folder / "model.h5"
    size = 512
    while size < len(data):
        size *= 2
    path.write_bytes(data.ljust(size, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(56))
    return path


class _Program:
    """What unpickling would run: a call of nothing that exists."""

    def __reduce__(self) -> tuple[object, ...]:
        return (complex, ("geb",))


def _npz(objects: bool) -> bytes:
    stream = io.BytesIO()
    values = np.array([_Program()], dtype=object) if objects else np.zeros(3)
    np.savez(stream, weights=values)
    return stream.getvalue()


def _npz_of_a_pickle() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("weights.npy", pickle.dumps(_Program()))
    return stream.getvalue()


def _pickled(name: str, data: bytes) -> Callable[[Path, Bait], Path]:
    return lambda folder, _: keras_file(folder, sequential(), {name: data})


def cases() -> dict[str, Case]:
    """All archives."""
    found = {
        f"a member {name}": Case(
            build=_named(member),
            code="GEB903",
            identifier=ESCAPES,
            place="archive member",
            exit_code=3,
        )
        for name, member in NAMES.items()
    }
    for name, mode in {"link": 0o120777, "named pipe": 0o010666, "device": 0o060666}.items():
        found[f"a member that is a {name}"] = Case(
            build=_member(_special(mode), b"/etc/passwd"),
            code="GEB903",
            identifier=ESCAPES,
            place="assets/x",
            exit_code=3,
        )
    for name in ("config.json", "model.weights.h5", "assets/x"):
        found[f"a bomb as {name}"] = Case(build=_bomb(name), code="GEB905", place=name, exit_code=3)
    duplicates = {
        "of one name": "config.json",
        "of two cases": "Config.JSON",
        "of one name, composed otherwise": "config.json/",
    }
    for name, member in duplicates.items():
        found[f"members {name}"] = Case(
            build=_member(member, b"{}"), code="GEB906", place="onfig", exit_code=3
        )
    bombs = {
        "a size that lies": (_lying_size, "config.json"),
        "members that overlap": (_overlapping, "assets/b"),
        "zip64 records of a billion members": (patched(_zip64(0, 10**9)), "the archive"),
    }
    for name, (build, place) in bombs.items():
        found[name] = Case(build=build, code="GEB905", place=place, exit_code=3)
    changes: dict[str, Callable[[bytearray], bytes | bytearray]] = {
        "another name in the member's own header": _other_local_name,
        "another size in the member's own header": _other_local_size,
        "an archive before the archive": _prepended,
        "a mark of several disks before the archive": lambda data: b"PK\x07\x08" + bytes(data),
        "other bytes before the archive": lambda data: b"#!/bin/true\n" + bytes(data),
        "bytes after the archive": lambda data: bytes(data) + b"\n",
        "an archive after the archive, cut": lambda data: bytes(data) + _archive_of(OTHER) + b"\n",
        "an archive in the comment": _in_the_comment,
        "a member that is not listed": _unlisted,
        "a count that is too small": _count(1),
        "a count that is too large": _count(9),
        "zip64 records that count less": _zip64(0, 1),
        "zip64 records that lead elsewhere": _zip64(2, 5),
    }
    for name, change in changes.items():
        found[name] = Case(build=patched(change), code="GEB906", exit_code=3)
    found["an HDF5 file with an archive behind"] = Case(
        build=_hdf5_with_a_zip_behind, code="GEB906", exit_code=3
    )
    found["an archive with an HDF5 file behind"] = Case(
        build=_zip_with_an_hdf5_behind, code="GEB906", exit_code=3
    )
    found["an encrypted archive"] = Case(build=patched(_encrypted), code="", exit_code=3)
    weights = "model.weights.npz"
    for name, data in {
        "pickled objects": _npz(objects=True),
        "a pickle as its member": _npz_of_a_pickle(),
        "a pickle itself": pickle.dumps(_Program()),
        "an old pickle itself": pickle.dumps(_Program(), protocol=0),
    }.items():
        found[f"weights as .npz: {name}"] = Case(
            build=_pickled(weights, data), code="GEB907", place=weights
        )
    for name, data in {
        "a pickle": pickle.dumps({"a": _Program()}, protocol=2),
        "an array of objects": _npy_of_objects(),
        "an archive with a pickle": _npz_of_a_pickle(),
    }.items():
        found[f"an asset: {name}"] = Case(
            build=_pickled("assets/it", data),
            code="GEB907",
            place="assets/it",
            severity="warning",
            exit_code=0,
        )
    return found


def _npy_of_objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([_Program()], dtype=object))
    return stream.getvalue()


#: Archives with nothing wrong about them, by name.
def healthy(folder: Path) -> dict[str, Path]:
    """Archives that are written otherwise than Keras does, and do no harm."""
    members = {"assets/a..b/c": b"\x80", "model.weights.npz": _npz(objects=False), "assets/": b""}
    made: dict[str, Path] = {}
    for name, options in {
        "stored": {},
        "deflated": {"compression": zipfile.ZIP_DEFLATED},
    }.items():
        (folder / name).mkdir()
        made[name] = keras_file(folder / name, sequential(), members, **options)
    commented = folder / "commented.keras"
    commented.write_bytes(made["stored"].read_bytes())
    with zipfile.ZipFile(commented, "a") as archive:
        archive.comment = b"a remark"
    made["commented"] = commented
    streamed = folder / "streamed.keras"
    with streamed.open("wb") as stream, zipfile.ZipFile(_Unseekable(stream), "w") as archive:
        archive.writestr("config.json", json.dumps(sequential()))
        archive.writestr("assets/a", b"a" * 100)
    made["streamed"] = streamed
    large = folder / "zip64.keras"
    with (
        zipfile.ZipFile(large, "w") as archive,
        archive.open("config.json", "w", force_zip64=True) as member,
    ):
        member.write(json.dumps(sequential()).encode())
    made["zip64"] = large
    return made


class _Unseekable(io.RawIOBase):
    """A stream that is written as to a socket: sizes follow each member's bytes."""

    def __init__(self, stream: io.BufferedWriter) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._stream.write(data)
