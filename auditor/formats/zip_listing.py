"""The listing of a zip archive held against the archive's bytes, before a member is read.

A zip archive says twice what is in it: in a listing at its end, and in a header before each member.
Readers differ in which they believe, in where they look for the listing and in what they make of
bytes outside of both, so that two of them can see two models in one file. What Keras writes agrees
in all of it; what does not is refused (APPNOTE.TXT 6.3.10, sections 4.3 to 4.5).
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.refusal import refusal
from auditor.formats.untrusted import summary

END = struct.Struct("<4sHHHHLLH")
END_MAGIC = b"PK\x05\x06"
END64 = struct.Struct("<4sQHHLLQQQQ")
END64_MAGIC = b"PK\x06\x06"
LOCATOR = struct.Struct("<4sLQL")
LOCATOR_MAGIC = b"PK\x06\x07"
ENTRY = struct.Struct("<4s24xHHH12x")
ENTRY_MAGIC = b"PK\x01\x02"
LOCAL = struct.Struct("<4s2xHH4xLLLHH")
LOCAL_MAGIC = b"PK\x03\x04"
LONGEST_COMMENT = 2**16 - 1
#: Bytes of an entry in the listing, on the average over many, beyond which it is not meant.
ENTRY_BYTES = 1024
UTF8, DESCRIPTOR, ENCRYPTED = 0x800, 0x8, 0x1
IN_ZIP64 = 2**32 - 1
#: The longest data descriptor after a member that was written to a stream.
LONGEST_DESCRIPTOR = 24


@dataclass(frozen=True, kw_only=True)
class StoredSpan:
    """Where a member's bytes stand in the archive's file, as they are stored."""

    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Where the listing stands, and how many members it says it has."""

    offset: int
    size: int
    members: int


def find_listing(stream: BinaryIO, limits: Limits) -> Listing:
    """The one listing of an archive that is all of a file.

    Raises `UnreadableModel` where there is none, `UnsafeModel` where there are several, where it
    does not end the file, or where it lists too much.
    """
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - END.size - LONGEST_COMMENT)
    stream.seek(start)
    tail = stream.read(size - start)
    place = tail.rfind(END_MAGIC)
    if place < 0 or len(tail) - place < END.size:
        raise damaged("no end of its listing")
    _, disk, first_disk, _, members, length, offset, comment = END.unpack_from(tail, place)
    if disk or first_disk:
        raise UnreadableModel("one part of a zip archive in several; save the model in one")
    end = start + place
    if end + END.size + comment != size or _ends(tail) > 1:
        raise refusal(
            "GEB906",
            "the archive",
            "bytes follow its end, so that two readers may see two models",
        )
    listing = _listing64(stream, end) or Listing(offset=offset, size=length, members=members)
    if listing.members > limits.members or listing.size > limits.members * ENTRY_BYTES:
        raise refusal(
            "GEB905",
            "the archive",
            f"it lists {listing.members:,} members in {listing.size:,} bytes (more than "
            f"{limits.members:,} members are not read)",
        )
    _check_entries(stream, listing)
    return listing


def _ends(tail: bytes) -> int:
    """How many ends of a listing would, by their comments, end the file."""
    found, place = 0, tail.find(END_MAGIC)
    while place >= 0:
        if len(tail) - place >= END.size:
            comment = END.unpack_from(tail, place)[-1]
            found += place + END.size + comment == len(tail)
        place = tail.find(END_MAGIC, place + 1)
    return found


def _listing64(stream: BinaryIO, end: int) -> Listing | None:
    """The listing as the zip64 records before its end tell it; None where there are none.

    Checks, in either case, that the listing ends where the records about it begin.
    """
    records = end
    found: Listing | None = None
    if end >= LOCATOR.size + END64.size:
        stream.seek(end - LOCATOR.size)
        magic, disk, _, disks = LOCATOR.unpack(stream.read(LOCATOR.size))
        if magic == LOCATOR_MAGIC:
            records = end - LOCATOR.size - END64.size
            stream.seek(records)
            fields = END64.unpack(stream.read(END64.size))
            if fields[0] != END64_MAGIC or disk or disks > 1:
                raise damaged("zip64 records that lead nowhere")
            found = Listing(members=fields[7], size=fields[8], offset=fields[9])
    stream.seek(end)
    fields = END.unpack(stream.read(END.size))
    listing = found or Listing(members=fields[4], size=fields[5], offset=fields[6])
    if listing.offset + listing.size != records:
        raise refusal(
            "GEB906",
            "the archive",
            "its listing is not where its end says: bytes were put before or into the archive, so "
            "that two readers may see two models",
        )
    return found


def _check_entries(stream: BinaryIO, listing: Listing) -> None:
    stream.seek(listing.offset)
    entries = stream.read(listing.size)
    position = count = 0
    while position < len(entries):
        if len(entries) - position < ENTRY.size:
            raise damaged("a listing that breaks off")
        magic, *lengths = ENTRY.unpack_from(entries, position)
        if magic != ENTRY_MAGIC:
            raise damaged("a listing of other things than members")
        position += ENTRY.size + sum(lengths)
        count += 1
        if count > listing.members:
            break
    if count != listing.members:
        raise refusal(
            "GEB906",
            "the archive",
            f"its end counts {listing.members:,} members and its listing holds "
            f"{'more' if count > listing.members else f'{count:,}'}",
        )


def member_spans(
    stream: BinaryIO, infos: list[zipfile.ZipInfo], listing: Listing
) -> Mapping[str, StoredSpan]:
    """Where each member's bytes stand, by its name.

    Raises `UnsafeModel` where members overlap (one set of bytes inflated many times over), or where
    a member's own header says other than the listing; `UnreadableModel` for damage.
    """
    spans: dict[str, StoredSpan] = {}
    end = 0
    before = "the archive's beginning"
    for info in sorted(infos, key=lambda info: info.header_offset):
        member = f"archive member {summary(info.filename)!r}"
        if info.header_offset < end:
            raise refusal(
                "GEB905",
                member,
                f"it overlaps {summary(before)!r}: the same bytes are inflated more than once",
            )
        _check_gap(stream, end, info.header_offset, before)
        span = _span(stream, info, member)
        end = span.offset + span.size
        if end > listing.offset:
            raise damaged(f"{member} reaches into the listing")
        spans[info.filename] = span
        before = info.filename
    _check_gap(stream, end, listing.offset, before)
    return spans


def _check_gap(stream: BinaryIO, start: int, end: int, before: str) -> None:
    """Refuse a member that stands in the archive and not in its listing."""
    stream.seek(start)
    gap = stream.read(min(end - start, LONGEST_DESCRIPTOR + len(LOCAL_MAGIC)))
    if LOCAL_MAGIC in gap:
        raise refusal(
            "GEB906",
            "the archive",
            f"a member that its listing leaves out stands after {summary(before)!r}, so that two "
            "readers may see two models",
        )


def _span(stream: BinaryIO, info: zipfile.ZipInfo, member: str) -> StoredSpan:
    stream.seek(info.header_offset)
    header = stream.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(LOCAL_MAGIC):
        raise damaged(f"{member} is not where the listing says")
    _, flags, method, crc, packed, size, name_length, extra_length = LOCAL.unpack(header)
    name = stream.read(name_length)
    differs = method != info.compress_type or (flags ^ info.flag_bits) & ENCRYPTED
    listed = info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437", "replace")
    differs = differs or name != listed
    if not flags & DESCRIPTOR:
        told = ((crc, info.CRC), (packed, info.compress_size), (size, info.file_size))
        differs = differs or any(own not in (other, IN_ZIP64) for own, other in told)
    if differs:
        raise refusal(
            "GEB906",
            member,
            "its own header does not agree with the listing, so that two readers may see two "
            "models",
        )
    offset = info.header_offset + LOCAL.size + name_length + extra_length
    return StoredSpan(offset=offset, size=info.compress_size)


def damaged(detail: str) -> UnreadableModel:
    """The error for an archive that is no longer, or never was, one."""
    return UnreadableModel(
        "the zip archive is truncated or damaged; save or copy the model again", detail=detail
    )
