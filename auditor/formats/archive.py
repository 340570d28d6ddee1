"""A zip archive: its listing checked before anything in it is read, its stored members in place."""

from __future__ import annotations

import io
import re
import stat
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from auditor.errors import UnreadableModel
from auditor.formats.digest import Checksum
from auditor.formats.limits import Limits
from auditor.formats.refusal import refusal
from auditor.formats.untrusted import summary
from auditor.formats.zip_listing import ENCRYPTED, StoredSpan, damaged, find_listing, member_spans

__all__ = ["Archive", "SpanStream", "StoredSpan", "escape"]

#: Below this a member's expansion is of no consequence, whatever its ratio (zeros compress well).
SMALL = 16 * 2**20
#: What is told of members that would be unpacked to another place.
WRITES_OUTSIDE = "unpacking it would write outside its folder"
ESCAPES = "GHSA-hqp4-2352-xf5r"
#: What no name has that is the name of one file in its folder.
STEERING = re.compile(r"[/\\\0]|\A\.\.\Z")
#: zlib's sign for a stream without a header.
RAW_DEFLATE = -15


class Archive:
    """A zip archive opened for reading. Use as a context manager.

    Raises `UnreadableModel` for what is no readable archive, `UnsafeModel` for one whose listing
    is hostile: members that lead out of the archive, stand twice, are links, or are bombs, or a
    listing that does not agree with what it lists.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._stream: BinaryIO = path.open("rb")
        try:
            listing = find_listing(self._stream, limits)
            self._members = {info.filename: info for info in self._checked(self._listed())}
            self._spans = member_spans(self._stream, list(self._members.values()), listing)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(self._members)

    def read(self, name: str, most: int) -> bytes:
        """All bytes of a member; one that declares or inflates to more than `most` is refused."""
        info = self._members[name]
        if info.file_size > most:
            raise refusal(
                "GEB905",
                _place(name),
                f"it declares {info.file_size / 2**20:,.0f} MiB; more than "
                f"{most / 2**20:,.0f} MiB of it are not read into memory",
            )
        values = self.head(name, info.file_size + 1)
        if len(values) > info.file_size:
            raise refusal(
                "GEB905",
                _place(name),
                f"it declares {info.file_size:,} bytes and inflates to more",
            )
        if len(values) < info.file_size or zlib.crc32(values) != info.CRC:
            raise _damaged(name, "its bytes are not those that were written")
        return values

    def head(self, name: str, most: int) -> bytes:
        """The first bytes of a member, `most` of them or all there are; inflated no further."""
        span = self._spans[name]
        self._stream.seek(span.offset)
        if self._members[name].compress_type == zipfile.ZIP_STORED:
            return self._stream.read(min(span.size, most))
        inflate = zlib.decompressobj(RAW_DEFLATE)
        found, left = bytearray(), span.size
        try:
            while left > 0 and len(found) < most and not inflate.eof:
                packed = self._stream.read(min(left, 2**20, max(most - len(found), 4096)))
                left -= len(packed) or left
                while packed and len(found) < most and not inflate.eof:
                    found += inflate.decompress(packed, most - len(found))
                    packed = inflate.unconsumed_tail
        except zlib.error as error:
            raise _damaged(name, str(error)) from error
        return bytes(found)

    def size(self, name: str) -> int:
        """How many bytes a member has when it is inflated, as the listing says."""
        return self._members[name].file_size

    def span(self, name: str) -> StoredSpan | None:
        """Where a stored member's bytes stand; None for a compressed one."""
        info = self._members[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        if info.file_size != info.compress_size:
            raise _damaged(name, "a stored member of two sizes")
        return self._spans[name]

    def checksum(self, name: str) -> Checksum | None:
        """What a stored member's bytes are to add up to; None for a compressed one."""
        span = self.span(name)
        if span is None:
            return None
        return Checksum(name=name, span=span, crc=self._members[name].CRC)

    def check_inflated(self, name: str) -> None:
        """Refuse a compressed member that is too large to be inflated in memory."""
        size = self._members[name].file_size
        if size > self._limits.inflated_bytes:
            raise UnreadableModel(
                f"{name} is compressed and inflates to {size / 2**30:,.1f} GiB, more than is read "
                "into memory; save the model with Keras itself, which stores it uncompressed"
            )

    def _listed(self) -> list[zipfile.ZipInfo]:
        try:
            # Only its listing is read, and closing it leaves the stream open.
            with zipfile.ZipFile(self._stream) as listed:
                return listed.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(str(error)) from error

    def _checked(self, infos: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
        seen: dict[str, str] = {}
        for info in infos:
            self._check(info)
            # As file systems that do not tell case or composition apart would name it.
            same = unicodedata.normalize("NFC", info.filename).casefold().rstrip("/")
            if same in seen:
                also = "" if seen[same] == info.filename else f", once as {summary(seen[same])!r}"
                raise refusal(
                    "GEB906",
                    _place(info.filename),
                    f"it stands more than once{also}, so that two readers may see two models",
                )
            seen[same] = info.filename
        return infos

    def _check(self, info: zipfile.ZipInfo) -> None:
        place = _place(info.orig_filename)
        reason = escape(info.orig_filename) or escape(info.filename)
        if reason:
            raise refusal("GEB903", place, f"it {reason}; {WRITES_OUTSIDE}", identifier=ESCAPES)
        if info.filename != info.orig_filename:
            raise refusal("GEB906", place, f"its other name is {summary(info.filename)!r}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            link = "a symbolic link" if kind == stat.S_IFLNK else "no plain file"
            raise refusal("GEB903", place, f"it is {link}; {WRITES_OUTSIDE}", identifier=ESCAPES)
        if info.flag_bits & ENCRYPTED:
            raise UnreadableModel(f"{place} is encrypted; save the model unencrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableModel(
                f"{place} is compressed by a method that Keras does not use; save the model again"
            )
        packed = max(info.compress_size, 1)
        if info.file_size > SMALL and info.file_size > self._limits.expansion * packed:
            raise refusal(
                "GEB905",
                place,
                f"it inflates {info.compress_size:,} bytes to {info.file_size:,}",
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
    if STEERING.search(name) is None:
        return ""
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
        f"{_place(name)} is truncated or damaged; save or copy the model again",
        detail=detail,
    )


def _place(name: str) -> str:
    return f"archive member {summary(name)!r}"
