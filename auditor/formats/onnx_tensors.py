"""Tensors of an ONNX model: shape, dtype, and small picklable readers of their values."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from auditor.errors import UnreadableModel
from auditor.graph.weight import TensorReader

Array = np.ndarray[Any, Any]

#: TensorProto.DataType → (name, bits a value takes in raw_data). Numbers, because an older onnx
#: does not know the newer ones. Names are those of NumPy and ml_dtypes.
DATA_TYPES: Mapping[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
    24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
    27: ("float6_e2m3fn", 6),
    28: ("float6_e3m2fn", 6),
}
STRING = 8


def dtype_name(data_type: int) -> str:
    """The name of a TensorProto.DataType; "undefined" for 0, "type N" for one not known."""
    if data_type in DATA_TYPES:
        return DATA_TYPES[data_type][0]
    return f"type {data_type}" if data_type else "undefined"


def is_float(dtype: str) -> bool:
    """Whether values of this dtype can be trained."""
    return dtype.startswith(("float", "bfloat"))


def stored_bytes(data_type: int, shape: tuple[int, ...]) -> int | None:
    """Bytes of a tensor's raw data; None where the type has no fixed size."""
    bits = DATA_TYPES.get(data_type, ("", 0))[1]
    return -(-math.prod(shape) * bits // 8) if bits else None


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of the file. `read` is None where its values cannot be had, as `why` says."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: TensorReader | None
    external: bool = False
    why: str = ""

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class HeldTensor:
    """Reads values that are in memory already."""

    values: Array

    def __call__(self) -> Array:
        """The values."""
        return self.values


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """What tells that a file is still the one that was read: its size and time of change."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, descriptor: int) -> FileStamp:
        """The stamp of an open file."""
        status = os.fstat(descriptor)
        return cls(size=status.st_size, modified_ns=status.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class FileTensor:
    """Reads one TensorProto out of a model file."""

    path: Path
    stamp: FileStamp
    offset: int
    length: int

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` when the file is gone or changed."""
        data = _read_span(self.path, self.stamp, self.offset, self.length, follow=True)
        try:
            return to_array(onnx.TensorProto.FromString(data))
        except DecodeError as error:
            raise UnreadableModel(f"{self.path}: a tensor's bytes are damaged: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ExternalTensor:
    """Reads raw values out of a data file beside the model; a link is never followed."""

    path: Path
    stamp: FileStamp
    offset: int
    length: int
    data_type: int
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` when the file is gone or changed."""
        data = _read_span(self.path, self.stamp, self.offset, self.length, follow=False)
        return to_array(onnx.TensorProto(dims=self.shape, data_type=self.data_type, raw_data=data))


def to_array(tensor: onnx.TensorProto) -> Array:
    """The values of a TensorProto that holds them, in a dtype that NumPy itself computes with.

    Types NumPy lacks are widened, which changes no value: bfloat16 and narrower floats to
    float32, 2- and 4-bit integers to int8 or uint8. Raises `UnreadableModel`.
    """
    try:
        values = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise UnreadableModel(f"tensor {tensor.name!r} cannot be decoded: {error}") from error
    name = dtype_name(tensor.data_type)
    if values.dtype.name in _NUMPY_NUMBERS or values.dtype.kind in "OSU":
        return values
    if is_float(name):
        return values.astype(np.float32)
    return values.astype(np.uint8 if name.startswith("u") else np.int8)


_NUMPY_NUMBERS = frozenset(
    {
        "bool",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *("float16", "float32", "float64", "complex64", "complex128"),
    }
)


def _read_span(path: Path, stamp: FileStamp, offset: int, length: int, *, follow: bool) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read any more: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not regular or FileStamp.of(descriptor) != stamp:
            raise UnreadableModel(f"{path}: the file changed while it was audited; audit it again")
        stream.seek(offset)
        data = stream.read(length)
    if len(data) != length:
        raise UnreadableModel(f"{path}: the file ends before its tensor at byte {offset} does")
    return data
