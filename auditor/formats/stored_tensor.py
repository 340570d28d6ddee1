"""Tensors in a file: their shape and type now, their values when asked."""

from __future__ import annotations

import atexit
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.hdf5_process import Hdf5Process, Hdf5Source
from auditor.formats.limits import Limits
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
    source: Hdf5Source
    limits: Limits
    dataset: str
    bfloat16: bool = False

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Raises `UnreadableModel` when the file is gone or changed, or damaged."""
        self.stamp.check()
        try:
            values = _LAST.values(self.source, self.limits, self.dataset)
        except UnreadableModel as error:
            raise UnreadableModel(f"{self.stamp.path}: {error}", detail=error.detail) from error
        return widened(values, self.bfloat16)


class _LastFile:
    """The file that values were last asked of, kept open: its tensors are read one after another.

    A compressed archive member would otherwise be inflated anew for each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._source: Hdf5Source | None = None
        self._process: Hdf5Process | None = None
        self._owner = 0

    def values(self, source: Hdf5Source, limits: Limits, dataset: str) -> np.ndarray[Any, Any]:
        with self._lock:
            if self._process is None or (self._source, self._owner) != (source, os.getpid()):
                self.close()
                self._process = Hdf5Process(source, limits)
                self._source, self._owner = source, os.getpid()
            try:
                return self._process.values(dataset)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let the file go."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.close()


_LAST = _LastFile()
# Before the process it runs in is ended, which was registered earlier.
atexit.register(_LAST.close)


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
