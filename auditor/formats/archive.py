"""A zip archive: its listing checked before anything in it is read, its stored members in place."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits

LOCAL_HEADER = struct.Struct("<4s22xHH")
LOCAL_MAGIC = b"PK\x03\x04"
ENCRYPTED = 0x1
#: Below this a member's expansion is of no consequence, whatever its ratio (zeros compress well).
SMALL = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class StoredSpan:
    """Where an uncompressed member's bytes stand in the archive's file."""

    offset: int
    size: int


class Archive:
    """A zip archive opened for reading. Use as a context manager.

    Raises `UnreadableModel` for what is no readable archive, `UnsafeModel` for one whose listing
    is hostile: members that lead out of the archive, stand twice, are links, or are bombs.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UnreadableModel(
                "the zip archive is truncated or damaged; save or copy the model again",
                detail=str(error),
            ) from error
        try:
            self._check_listing()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(self._zip.namelist())

    def read(self, name: str, most: int) -> bytes:
        """All bytes of a member; one that declares more than `most` is refused."""
        info = self._zip.getinfo(name)
        if info.file_size > most:
            raise UnsafeModel(
                f"GEB905 resource-bomb: {name} declares {info.file_size / 2**20:,.0f} MiB; "
                f"more than {most / 2**20:,.0f} MiB of it are not read into memory"
            )
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise _damaged(name, str(error)) from error
        except Exception as error:  # zlib.error, lzma.LZMAError, struct.error
            raise _damaged(name, str(error)) from error

    def span(self, name: str) -> StoredSpan | None:
        """Where a stored member's bytes stand; None for a compressed one."""
        info = self._zip.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        with self.path.open("rb") as stream:
            stream.seek(info.header_offset)
            header = stream.read(LOCAL_HEADER.size)
            size = stream.seek(0, io.SEEK_END)
        if len(header) < LOCAL_HEADER.size:
            raise _damaged(name, "local header beyond the end of the file")
        magic, name_length, extra_length = LOCAL_HEADER.unpack(header)
        offset = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
        if magic != LOCAL_MAGIC or info.file_size != info.compress_size:
            raise _damaged(name, "local header does not agree with the listing")
        if offset + info.file_size > size:
            raise _damaged(name, "member reaches beyond the end of the file")
        return StoredSpan(offset=offset, size=info.file_size)

    def check_inflated(self, name: str) -> None:
        """Refuse a compressed member that is too large to be inflated in memory."""
        size = self._zip.getinfo(name).file_size
        if size > self._limits.inflated_bytes:
            raise UnreadableModel(
                f"{name} is compressed and inflates to {size / 2**30:,.1f} GiB, more than is read "
                "into memory; save the model with Keras itself, which stores it uncompressed"
            )

    def _check_listing(self) -> None:
        infos = self._zip.infolist()
        if len(infos) > self._limits.members:
            raise UnsafeModel(
                f"GEB905 resource-bomb: the archive lists {len(infos):,} members "
                f"(more than {self._limits.members:,})"
            )
        for info in infos:
            reason = escape(info.orig_filename)
            if reason:
                raise UnsafeModel(
                    f"GEB903 path-escape: archive member {info.orig_filename!r} {reason}; "
                    "unpacking it would write outside its folder"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UnsafeModel(
                    f"GEB903 path-escape: archive member {info.orig_filename!r} is a symbolic link"
                )
            if info.file_size > SMALL and info.file_size > self._limits.expansion * max(
                info.compress_size, 1
            ):
                raise UnsafeModel(
                    f"GEB905 resource-bomb: archive member {info.filename!r} inflates "
                    f"{info.compress_size:,} bytes to {info.file_size:,}"
                )
            if info.flag_bits & ENCRYPTED:
                raise UnreadableModel(
                    f"archive member {info.filename!r} is encrypted; save the model unencrypted"
                )
        twice = [name for name, count in Counter(i.filename for i in infos).items() if count > 1]
        if twice:
            raise UnsafeModel(
                f"GEB906 malformed-or-duplicated-members: archive member {twice[0]!r} stands "
                "more than once, so that two readers may see two models"
            )


class SpanStream(io.RawIOBase):
    """A read-only, seekable view of a span of a file."""

    def __init__(self, path: Path, span: StoredSpan) -> None:
        super().__init__()
        self._stream: BinaryIO = path.open("rb", buffering=0)
        self._span = span
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position of the span."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._span.size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        """The position in the span."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the position on, as far as the span reaches."""
        wanted = max(min(len(buffer), self._span.size - self._position), 0)
        self._stream.seek(self._span.offset + self._position)
        chunk = self._stream.read(wanted) or b""
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """Close the underlying file."""
        self._stream.close()
        super().close()


def escape(name: str) -> str:
    """Why a name would lead out of the folder it is put in; empty when it does not.

    A "/" inside a name does not: "block1/conv" stays below. Absolute names, drives, ".." as a whole
    segment (by either separator) and NUL do.
    """
    if "\0" in name:
        return "holds a NUL character"
    parts = re.split(r"[/\\]", name)
    if ".." in parts:
        return 'holds a ".." segment'
    if name.startswith(("/", "\\")):
        return "is absolute"
    if re.match(r"[A-Za-z]:[/\\]", name):
        return "names a drive"
    return ""


def _damaged(name: str, detail: str) -> UnreadableModel:
    return UnreadableModel(
        f"archive member {name!r} is truncated or damaged; save or copy the model again",
        detail=detail,
    )
