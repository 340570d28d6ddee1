"""The digest of a file's bytes, taken while the file is read otherwise."""

from __future__ import annotations

import hashlib
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import UnreadableModel
from auditor.formats.zip_listing import StoredSpan

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Checksum:
    """The CRC-32 that the bytes of a span of the file are to have, and what they are called."""

    name: str
    span: StoredSpan
    crc: int


class Digest:
    """The SHA-256 of a file, in a thread of its own: hashing lets others run. A context manager.

    With a `checksum`, the bytes that are otherwise read in place, and in parts, are checked whole.
    """

    def __init__(self, path: Path, checksum: Checksum | None = None) -> None:
        self._checksum = checksum
        self._threads = ThreadPoolExecutor(max_workers=1)
        self._digests: Future[tuple[str, int]] = self._threads.submit(_digests, path, checksum)

    def __enter__(self) -> Digest:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def hex(self) -> str:
        """The digest as hex digits.

        Raises `UnreadableModel` where the checksum is another, OSError where the file cannot be
        read.
        """
        digest, crc = self._digests.result()
        if self._checksum is not None and crc != self._checksum.crc:
            raise UnreadableModel(
                f"{self._checksum.name} is damaged: its bytes are not those that were written; "
                "save or copy the model again",
                detail=f"CRC-32 {crc:08x}, not {self._checksum.crc:08x}",
            )
        return digest


def _digests(path: Path, checksum: Checksum | None) -> tuple[str, int]:
    digest, crc, position = hashlib.sha256(), 0, 0
    begin = end = 0
    if checksum is not None:
        begin, end = checksum.span.offset, checksum.span.offset + checksum.span.size
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            part = memoryview(chunk)[max(begin - position, 0) : max(end - position, 0)]
            crc = zlib.crc32(part, crc)
            position += len(chunk)
    return digest.hexdigest(), crc
