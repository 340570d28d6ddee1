"""The digest of a file's bytes, taken while the file is read otherwise."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path


class Digest:
    """The SHA-256 of a file, in a thread of its own: hashing lets others run. A context manager."""

    def __init__(self, path: Path) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1)
        self._digest: Future[str] = self._threads.submit(_sha256, path)

    def __enter__(self) -> Digest:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def hex(self) -> str:
        """The digest as hex digits. Raises OSError where the file cannot be read."""
        return self._digest.result()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
