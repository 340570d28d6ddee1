"""Files that hold an ONNX model's values: opened without following links, read in parts."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from auditor.errors import UnreadableModel

#: Bytes from which values are mapped and not copied: a model of gigabytes is read in little memory.
MAPPED = 1 << 26
#: Where folders can be opened within folders, a link put in place meanwhile is not followed.
WITHIN_FOLDERS = os.open in os.supports_dir_fd
FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
FOLDER = getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """What tells that a file is still the one that was read."""

    size: int
    modified_ns: int
    inode: int = 0
    device: int = 0

    @classmethod
    def of(cls, descriptor: int) -> FileStamp:
        """The stamp of an open file."""
        status = os.fstat(descriptor)
        return cls(
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            inode=status.st_ino,
            device=status.st_dev,
        )


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of values.

    `location` is the way from `path`, then a folder, to the file, no part of which may be a link;
    an empty one says that `path` is the file itself, named by the user.
    """

    path: Path
    stamp: FileStamp
    location: str = ""

    def read(self, offset: int, length: int) -> bytes:
        """A copy of some bytes. Raises `UnreadableModel` when the file is gone or changed."""
        with self._open() as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) != length:
            raise UnreadableModel(f"{self.path}: the file ends before its tensor at {offset} does")
        return data

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """Some bytes: copied where they are few, mapped where they are many. Errors as `read`."""
        if length < MAPPED:
            return self.read(offset, length)
        with self._open() as descriptor:
            before = offset % mmap.ALLOCATIONGRANULARITY
            try:
                mapped = mmap.mmap(
                    descriptor, before + length, access=mmap.ACCESS_READ, offset=offset - before
                )
            except (OSError, ValueError) as error:
                raise UnreadableModel(f"{self.path}: cannot be mapped: {error}") from error
        return memoryview(mapped)[before:]

    @contextmanager
    def _open(self) -> Iterator[int]:
        try:
            descriptor = open_below(self.path, self.location)
        except OSError as error:
            raise UnreadableModel(
                f"{self.path / self.location}: cannot be read any more: {error.strerror}"
            ) from error
        try:
            if not is_plain(descriptor) or FileStamp.of(descriptor) != self.stamp:
                raise UnreadableModel(
                    f"{self.path / self.location}: the file changed while it was audited; "
                    "audit it again"
                )
            yield descriptor
        finally:
            os.close(descriptor)


def is_plain(descriptor: int) -> bool:
    """Whether an open file is a regular one."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def open_below(folder: Path, location: str) -> int:
    """Open a file by its way from a folder, no part of which may be a link.

    An empty location opens `folder` itself, links allowed: the user's own way is the user's. Raises
    OSError.
    """
    if not location:
        return os.open(folder, FLAGS)
    *parts, last = PurePosixPath(location).parts
    if not WITHIN_FOLDERS:
        return os.open(folder.joinpath(*parts, last), FLAGS | NO_LINK)
    within = os.open(folder, FLAGS | FOLDER)
    try:
        for part in parts:
            deeper = os.open(part, FLAGS | FOLDER | NO_LINK, dir_fd=within)
            os.close(within)
            within = deeper
        return os.open(last, FLAGS | NO_LINK, dir_fd=within)
    finally:
        os.close(within)
