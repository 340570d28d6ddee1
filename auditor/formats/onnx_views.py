"""Stored tensors as nodes see them: turned, cut, joined or dequantized on the way, read lazily.

Two views that show the same part of the file in the same way are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.onnx_dimensions import Case
from auditor.formats.onnx_folding import slices
from auditor.formats.onnx_model import OnnxNode, TensorType
from auditor.formats.onnx_tensors import Array, StoredTensor, is_float
from auditor.graph.weight import TensorReader

#: Views of views, and pieces put together, that are followed: real models have a handful.
MAX_VIEWS = 64
MAX_PIECES = 1024


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A stored tensor as a node sees it: perhaps cast, transposed or dequantized on the way.

    `literal` is a tensor written into the graph as a Constant node; `quantized` one that was
    rounded for inference and cannot be trained as it is; `views` counts what it is seen through,
    `pieces` the tensors it is put together of, one as often as it takes part.
    """

    tensor: StoredTensor
    literal: bool = False
    quantized: bool = False
    views: int = 0
    pieces: int = 1


@dataclass(frozen=True, kw_only=True)
class Transposed:
    """Reads a tensor with its axes permuted."""

    read: TensorReader
    perm: tuple[int, ...]

    def __call__(self) -> Array:
        """The values."""
        return np.transpose(self.read(), self.perm)


@dataclass(frozen=True, kw_only=True)
class Reshaped:
    """Reads a tensor in another shape of as many values."""

    read: TensorReader
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        """The values."""
        return self.read().reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """Reads a part of a tensor: (start, stop, step) along each axis."""

    read: TensorReader
    parts: tuple[tuple[int, int | None, int], ...]

    def __call__(self) -> Array:
        """The values."""
        return self.read()[tuple(slice(*part) for part in self.parts)]


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Reads several tensors side by side along an axis."""

    reads: tuple[TensorReader, ...]
    axis: int

    def __call__(self) -> Array:
        """The values. Raises `UnreadableModel` where the parts do not fit."""
        try:
            return np.concatenate([read() for read in self.reads], axis=self.axis)
        except ValueError as error:
            raise UnreadableModel(f"tensors to be joined do not fit: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Dequantized:
    """Reads (q − zero point) · scale, of scale and zero point one, one an index or one a block.

    `block` is the number of values along `axis` that share a scale; 0 where the axis is not cut
    into blocks (ONNX Operators.md, DequantizeLinear).
    """

    read: TensorReader
    scale: TensorReader
    zero_point: TensorReader | None
    axis: int
    block: int = 0

    def __call__(self) -> Array:
        """The values, float32. Raises `UnreadableModel` where the parts do not fit."""
        values = self.read().astype(np.float32)

        def along(factor: Array) -> Array:
            factor = factor.astype(np.float32)
            if self.block:
                whole = np.repeat(factor, self.block, axis=self.axis)
                return np.take(whole, range(values.shape[self.axis]), axis=self.axis)
            if factor.ndim != 1 or factor.size == 1:
                return factor
            shape = [1] * values.ndim
            shape[self.axis] = -1
            return factor.reshape(shape)

        try:
            offset = np.float32(0) if self.zero_point is None else along(self.zero_point())
            result = np.asarray((values - offset) * along(self.scale()))
        except (IndexError, ValueError) as error:
            raise UnreadableModel(f"a quantized tensor does not fit its scale: {error}") from error
        if result.shape != values.shape:
            raise UnreadableModel("a quantized tensor does not fit its scale")
        return result


def views(
    case: Case, sources: Sequence[Constant | None], outputs: Sequence[TensorType]
) -> tuple[Constant | None, ...]:
    """What the outputs of a node show of stored tensors, where they are no more than a view.

    `sources` are the node's inputs as far as they are such views themselves, `outputs` the types
    of what it gives. Raises the errors of NumPy where attributes do not fit.
    """
    kind = case.node.op_type
    known = [source for source in sources if source is not None]
    depth = 1 + max((source.views for source in known), default=0)
    pieces = sum(source.pieces for source in known)
    if case.node.domain or not sources or depth > MAX_VIEWS or pieces > MAX_PIECES:
        return ()
    return tuple(
        None if view is None else replace(view, views=depth, pieces=pieces)
        for view in _views(kind, case, sources, outputs)
    )


def _views(
    kind: str, case: Case, sources: Sequence[Constant | None], outputs: Sequence[TensorType]
) -> tuple[Constant | None, ...]:
    if kind == "Concat":
        return (_joined(case.node, sources),)
    source = sources[0]
    if source is None:
        return ()
    if kind in ("Identity", "Cast", "CastLike"):
        return (source if is_float(source.tensor.dtype) else None,)
    if kind == "Transpose":
        return (_transposed(case.node, source),)
    if kind in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
        return (_reshaped(source, outputs[0].shape),)
    if kind == "Slice" and is_float(source.tensor.dtype):
        return (_sliced(case, source),)
    if kind == "Split" and is_float(source.tensor.dtype):
        return _split(case.node, source, [given.shape for given in outputs])
    if kind == "DequantizeLinear":
        return (_dequantized(case.node, sources, outputs[0].dtype),)
    return ()


def _shown(source: Constant, shape: tuple[int, ...], read: TensorReader | None) -> Constant:
    return replace(source, tensor=replace(source.tensor, shape=shape, read=read))


def _transposed(node: OnnxNode, source: Constant) -> Constant | None:
    tensor = source.tensor
    perm = node.integers("perm") or tuple(reversed(range(len(tensor.shape))))
    if sorted(perm) != list(range(len(tensor.shape))):
        return None
    shape = tuple(tensor.shape[axis] for axis in perm)
    return _shown(source, shape, tensor.read and Transposed(read=tensor.read, perm=perm))


def _reshaped(source: Constant, out: Sequence[int | str | None] | None) -> Constant | None:
    tensor = source.tensor
    shape = tuple(dim for dim in out or () if isinstance(dim, int))
    if out is None or len(shape) != len(out) or math.prod(shape) != tensor.size:
        return None
    return _shown(source, shape, tensor.read and Reshaped(read=tensor.read, shape=shape))


def _sliced(case: Case, source: Constant) -> Constant | None:
    bounds = slices(case.node, case.values)
    if bounds is None:
        return None
    parts: list[tuple[int, int | None, int]] = [(0, None, 1)] * len(source.tensor.shape)
    for axis, start, end, step in bounds:
        dim = source.tensor.shape[axis]
        parts[axis] = (start, None if step < 0 and end < -dim else end, step)
    return _part(source, tuple(parts))


def _part(source: Constant, parts: tuple[tuple[int, int | None, int], ...]) -> Constant:
    tensor = source.tensor
    shape = tuple(
        len(range(*slice(*part).indices(dim)))
        for part, dim in zip(parts, tensor.shape, strict=True)
    )
    return _shown(source, shape, tensor.read and Sliced(read=tensor.read, parts=parts))


def _split(
    node: OnnxNode, source: Constant, shapes: Sequence[Sequence[int | str | None] | None]
) -> tuple[Constant | None, ...]:
    rank = len(source.tensor.shape)
    axis = node.integer("axis", 0)
    start = 0
    found: list[Constant | None] = []
    for shape in shapes:
        size = shape[axis] if shape is not None and len(shape) == rank else None
        if not isinstance(size, int):
            return ()
        parts: list[tuple[int, int | None, int]] = [(0, None, 1)] * rank
        parts[axis] = (start, start + size, 1)
        found.append(_part(source, tuple(parts)))
        start += size
    return tuple(found)


def _joined(node: OnnxNode, sources: Sequence[Constant | None]) -> Constant | None:
    """Parts of float dtype joined, under the name of the result."""
    parts = [source for source in sources if source is not None]
    dtypes = {part.tensor.dtype for part in parts}
    if len(parts) != len(sources) or len(dtypes) != 1 or not is_float(parts[0].tensor.dtype):
        return None
    shapes = [part.tensor.shape for part in parts]
    axis = node.integer("axis", 1)
    axis = axis + len(shapes[0]) if axis < 0 else axis
    if {(*shape[:axis], 0, *shape[axis + 1 :]) for shape in shapes} != {
        (*shapes[0][:axis], 0, *shapes[0][axis + 1 :])
    }:
        return None
    whole = sum(shape[axis] for shape in shapes)
    reads = tuple(part.tensor.read for part in parts if part.tensor.read is not None)
    return Constant(
        tensor=StoredTensor(
            name=node.outputs[0],
            dtype=parts[0].tensor.dtype,
            shape=(*shapes[0][:axis], whole, *shapes[0][axis + 1 :]),
            read=Joined(reads=reads, axis=axis) if len(reads) == len(parts) else None,
            why=next((part.tensor.why for part in parts if part.tensor.why), ""),
        ),
        literal=all(part.literal for part in parts),
        quantized=any(part.quantized for part in parts),
    )


def _dequantized(node: OnnxNode, sources: Sequence[Constant | None], dtype: str) -> Constant | None:
    source = sources[0]
    if source is None:
        return None
    readers = [part.tensor.read if part else None for part in sources[1:]]
    scale = readers[0] if readers else None
    read: TensorReader | None = None
    if source.tensor.read is not None and scale is not None and None not in readers:
        read = Dequantized(
            read=source.tensor.read,
            scale=scale,
            zero_point=readers[1] if len(readers) > 1 else None,
            axis=node.integer("axis", 1),
            block=max(node.integer("block_size", 0), 0),
        )
    shown = replace(source.tensor, dtype=dtype or "float32", read=read)
    return replace(source, tensor=shown, quantized=True)
