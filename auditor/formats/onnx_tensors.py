"""Tensors of an ONNX model: shape, dtype, and small picklable readers of their values."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.helper
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from auditor.errors import UnreadableModel
from auditor.formats.onnx_data_file import DataFile
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


@dataclass(frozen=True, eq=False)
class HeldTensor:
    """Reads values that are in memory already; equal to itself alone."""

    values: Array

    def __call__(self) -> Array:
        """The values."""
        return self.values


@dataclass(frozen=True, eq=False)
class ProtoTensor:
    """Decodes a TensorProto that is in memory, when asked; equal to itself alone."""

    proto: onnx.TensorProto

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` where they cannot be decoded."""
        return to_array(self.proto)


@dataclass(frozen=True, kw_only=True)
class RawTensor:
    """Reads values that stand as they are, in one piece, in the model's file or beside it."""

    file: DataFile
    offset: int
    length: int
    data_type: int
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """The values; of a large tensor, mapped from the file and not to be written to.

        Raises `UnreadableModel` when the file is gone or changed.
        """
        dtype = _raw_dtype(self.data_type)
        if dtype is None:
            packed = self.file.read(self.offset, self.length)
            return to_array(
                onnx.TensorProto(dims=self.shape, data_type=self.data_type, raw_data=packed)
            )
        data = self.file.view(self.offset, self.length)
        return np.frombuffer(data, dtype).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class EncodedTensor:
    """Reads a TensorProto out of the model's file whose values are not raw."""

    file: DataFile
    offset: int
    length: int

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` when the file is gone or changed."""
        data = self.file.read(self.offset, self.length)
        try:
            return to_array(onnx.TensorProto.FromString(data))
        except DecodeError as error:
            raise UnreadableModel(
                f"{self.file.path}: a tensor's bytes are damaged: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class SparseTensor:
    """Reads a SparseTensorProto and makes it dense.

    `indices` are positions in the flattened tensor, `(nnz,)`, or one along each axis,
    `(nnz, rank)` (onnx.proto, SparseTensorProto).
    """

    values: TensorReader
    indices: TensorReader
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` where an index lies outside of the shape."""
        values, indices = self.values(), np.asarray(self.indices())
        dense = np.zeros(self.shape, values.dtype)
        try:
            if indices.ndim == 2:
                indices = np.ravel_multi_index(tuple(indices.T), self.shape)
            if indices.size and indices.min() < 0:
                raise IndexError("a negative index")
            dense.reshape(-1)[indices] = values.reshape(-1)
        except (IndexError, TypeError, ValueError) as error:
            raise UnreadableModel(f"a sparse tensor's indices do not fit it: {error}") from error
        return dense


def to_array(tensor: onnx.TensorProto) -> Array:
    """The values of a TensorProto that holds them, as onnx gives them.

    Types NumPy lacks are those of ml_dtypes. Raises `UnreadableModel`.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise UnreadableModel(f"tensor {tensor.name!r} cannot be decoded: {error}") from error


def widened(values: Array) -> Array:
    """Values in a dtype that NumPy itself calculates with, which changes none of them."""
    if values.dtype.kind != "V":
        return values
    return values.astype(np.int64 if "int" in values.dtype.name else np.float32)


def _raw_dtype(data_type: int) -> np.dtype[Any] | None:
    """The dtype of values that stand in a file as in memory; None for packed and unknown ones."""
    _, bits = DATA_TYPES.get(data_type, ("", 0))
    if bits % 8 or not bits:
        return None
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        return None
    if dtype.kind == "V":  # of ml_dtypes, which has the byte order of the machine
        return dtype if sys.byteorder == "little" else None
    return dtype.newbyteorder("<")
