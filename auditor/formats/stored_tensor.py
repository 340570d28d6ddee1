"""Tensors in a file: their shape and type now, their values when asked."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.archive import Archive, SpanStream, StoredSpan
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph.weight import TensorReader


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """What tells whether a file is still the one that was read."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """The stamp of a file as it is now."""
        status = path.stat()
        return cls(path=path.absolute(), size=status.st_size, modified_ns=status.st_mtime_ns)

    def check(self) -> None:
        """Raise `UnreadableModel` if the file is gone or another."""
        try:
            unchanged = FileStamp.of(self.path) == self
        except OSError as error:
            raise UnreadableModel(f"{self.path}: the file is gone: {error.strerror}") from error
        if not unchanged:
            raise UnreadableModel(f"{self.path}: the file changed while it was audited; try again")


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor as stored. `name` is the name the file gives it, possibly only a number."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: TensorReader


@dataclass(frozen=True, kw_only=True)
class FileTensor:
    """Reads values that stand in one piece, uncompressed, at an offset of the file."""

    stamp: FileStamp
    offset: int
    shape: tuple[int, ...]
    dtype: str
    bfloat16: bool = False

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Raises `UnreadableModel` when the file is gone or changed."""
        self.stamp.check()
        values = np.fromfile(
            self.stamp.path, np.dtype(self.dtype), math.prod(self.shape), offset=self.offset
        )
        if values.size != math.prod(self.shape):
            raise UnreadableModel(f"{self.stamp.path}: the file ends within a weight's values")
        return widened(values.reshape(self.shape), self.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Hdf5Tensor:
    """Reads a dataset that is chunked, compressed, or in a compressed archive member."""

    stamp: FileStamp
    member: str | None
    dataset: str
    bfloat16: bool = False

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Raises `UnreadableModel` when the file is gone or changed, or damaged."""
        self.stamp.check()
        with open_hdf5(self.stamp, self.member) as file:
            try:
                values = np.asarray(file[self.dataset][()])
            except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
                raise UnreadableModel(
                    f"{self.stamp.path}: the values of {self.dataset!r} are damaged",
                    detail=str(error),
                ) from error
        return widened(values, self.bfloat16)


@dataclass(frozen=True, eq=False)
class ArrayTensor:
    """Values held in memory."""

    values: np.ndarray[Any, Any]

    def __call__(self) -> np.ndarray[Any, Any]:
        """A copy of the values."""
        return self.values.copy()


def widened(values: np.ndarray[Any, Any], bfloat16: bool) -> np.ndarray[Any, Any]:
    """The values in a type numpy calculates with: a bfloat16 is the upper half of a float32."""
    if not bfloat16:
        return values
    halves = np.ascontiguousarray(values).view("<u2").astype("<u4")
    return (halves << 16).view("<f4")


@contextmanager
def open_hdf5(stamp: FileStamp, member: str | None) -> Iterator[h5py.File]:
    """The HDF5 file at a path, or that in a member of the zip archive there, never extracted.

    A stored member is read in place; a compressed one is inflated in memory, within limits.
    Raises `UnreadableModel` for what is not a readable HDF5 file.
    """
    place = member or "the HDF5 file"
    source: Any = str(stamp.path)
    if member is not None:
        span = _span(stamp, member)
        source = io.BytesIO(_inflated(stamp, member)) if span is None else _buffered(stamp, span)
    try:
        file = h5py.File(source, "r")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UnreadableModel(
            f"{place} is truncated or damaged; save or copy the model again", detail=str(error)
        ) from error
    try:
        with file:
            yield file
    finally:
        if member is not None:
            source.close()


def _buffered(stamp: FileStamp, span: StoredSpan) -> io.BufferedReader:
    return io.BufferedReader(SpanStream(stamp.path, span), buffer_size=2**16)


@lru_cache(maxsize=16)
def _span(stamp: FileStamp, member: str) -> StoredSpan | None:
    with Archive(stamp.path, DEFAULT_LIMITS) as archive:
        return archive.span(member)


# One compressed member at a time: its tensors are read one after the other.
@lru_cache(maxsize=1)
def _inflated(stamp: FileStamp, member: str) -> bytes:
    with Archive(stamp.path, DEFAULT_LIMITS) as archive:
        return archive.read(member, DEFAULT_LIMITS.inflated_bytes)
