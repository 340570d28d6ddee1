"""What is known of each value in an ONNX graph before it runs: type, small values, constness."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.onnx_dimensions import Case
from auditor.formats.onnx_dtypes import ALIKE, result_dtype
from auditor.formats.onnx_folding import MAX_KNOWN, Known, fold, known
from auditor.formats.onnx_model import OnnxGraph, OnnxNode, TensorType
from auditor.formats.onnx_operators import OPERATORS
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_shapes import infer
from auditor.formats.onnx_tensors import Array, HeldTensor, StoredTensor, is_float
from auditor.graph.layer_graph import Shape
from auditor.graph.weight import TensorReader

#: Values that come out new at each run, or out of graphs within nodes: never constant.
VARYING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike", "If", "Loop", "Scan", "SequenceMap"}
)
MAX_RANK = 64

#: Attributes of a Constant node that hold numbers.
LITERALS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A stored tensor as a node sees it: perhaps cast, transposed or dequantized on the way.

    `literal` is a tensor written into the graph as a Constant node; `quantized` one that was
    rounded for inference and cannot be trained as it is.
    """

    tensor: StoredTensor
    literal: bool = False
    quantized: bool = False


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
class Dequantized:
    """Reads (q − zero point) · scale, scale and zero point along one axis or single."""

    read: TensorReader
    scale: TensorReader
    zero_point: TensorReader | None
    axis: int

    def __call__(self) -> Array:
        """The values, float32. Raises `UnreadableModel` where the parts do not fit."""
        values = self.read().astype(np.float32)

        def along(factor: Array) -> Array:
            if factor.ndim != 1 or factor.size == 1:
                return factor.astype(np.float32)
            shape = [1] * values.ndim
            shape[self.axis] = -1
            return factor.astype(np.float32).reshape(shape)

        try:
            offset = np.float32(0) if self.zero_point is None else along(self.zero_point())
            result = np.asarray((values - offset) * along(self.scale()))
        except (IndexError, ValueError) as error:
            raise UnreadableModel(f"a quantized tensor does not fit its scale: {error}") from error
        if result.shape != values.shape:
            raise UnreadableModel("a quantized tensor does not fit its scale")
        return result


@dataclass(kw_only=True)
class Values:
    """Everything known of the values of one ordered graph.

    `fixed` holds values that no input of the model changes: stored tensors, constants, and what
    is computed from these and from shapes alone. `constants` holds those of them that are one
    stored tensor.
    """

    graph: OnnxGraph
    opset: int
    types: dict[str, TensorType] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)
    constants: dict[str, Constant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.graph.tensors.items():
            self._store(name, Constant(tensor=tensor))
        for name, kind in self.graph.inputs:
            self.types[name] = kind
        for node in self.graph.nodes:
            self._follow(node)

    def shape(self, name: str) -> Shape | None:
        """The shape of a value."""
        return self.types.get(name, TensorType()).shape

    def dtype(self, name: str) -> str:
        """The dtype of a value; empty where unknown."""
        return self.types.get(name, TensorType()).dtype

    def scalar(self, name: str) -> float | None:
        """The value of a constant of one element."""
        value = self.known.get(name)
        if value is None or value.size != 1:
            return None
        number = value.reshape(-1)[0]
        return float(number) if isinstance(number, (int, float)) else None

    def _store(self, name: str, constant: Constant) -> None:
        tensor = constant.tensor
        self.fixed.add(name)
        self.constants[name] = constant
        self.types[name] = TensorType(dtype=tensor.dtype, shape=tensor.shape)
        if isinstance(tensor.read, HeldTensor) and tensor.size <= MAX_KNOWN:
            values = tensor.read()
            if values.dtype.kind in "biuf":
                small = known(values)
                if small is not None:
                    self.known[name] = small

    def _follow(self, node: OnnxNode) -> None:
        if node.domain == "" and node.op_type == "Constant" and node.outputs:
            tensor = _literal(node)
            if tensor is not None:
                self._store(node.outputs[0], Constant(tensor=tensor, literal=True))
                return
        shapes = [self.shape(name) if name else None for name in node.inputs]
        values = [self.known.get(name) for name in node.inputs]
        case = Case(node=node, shapes=shapes, values=values, opset=self.opset)
        inferred = _attempt(lambda: infer(case)) or ()
        folded = _attempt(lambda: fold(node, values, shapes)) or ()
        dtypes = [self.dtype(name) if name else "" for name in node.inputs]
        dtype = result_dtype(node, dtypes)
        fixed = self._is_fixed(node)
        for index, name in enumerate(node.outputs):
            if not name:
                continue
            shape = inferred[index] if index < len(inferred) else None
            guess = TensorType(
                dtype=dtype if index == 0 or node.op_type in ALIKE else "",
                shape=None if shape is not None and len(shape) > MAX_RANK else shape,
            )
            self.types[name] = _merged(self.graph.types.get(name), guess)
            if index < len(folded) and (value := folded[index]) is not None:
                self.known[name] = value
            if fixed:
                self.fixed.add(name)
        if fixed and node.outputs and node.outputs[0]:
            view = _attempt(lambda: self._view(node))
            if view is not None:
                self.constants[node.outputs[0]] = view

    def _is_fixed(self, node: OnnxNode) -> bool:
        if (node.domain, node.op_type) not in OPERATORS or node.op_type in VARYING:
            return False
        if node.op_type in ("Shape", "Size"):
            return True
        return all(name in self.fixed for name in needs(node))

    def _view(self, node: OnnxNode) -> Constant | None:
        """The one stored tensor that a fixed value shows, if it is no more than that."""
        source = self.constants.get(node.inputs[0]) if node.inputs else None
        if source is None:
            return None
        tensor, read = source.tensor, source.tensor.read
        if node.op_type in ("Identity", "Cast", "CastLike") and is_float(tensor.dtype):
            return source
        if node.op_type == "Transpose":
            perm = node.integers("perm") or tuple(reversed(range(len(tensor.shape))))
            if sorted(perm) != list(range(len(tensor.shape))):
                return None
            shape = tuple(tensor.shape[axis] for axis in perm)
            view = replace(tensor, shape=shape, read=read and Transposed(read=read, perm=perm))
        elif node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            out = self.shape(node.outputs[0]) or ()
            shape = tuple(dim for dim in out if isinstance(dim, int))
            if len(shape) != len(out) or math.prod(shape) != tensor.size:
                return None
            view = replace(tensor, shape=shape, read=read and Reshaped(read=read, shape=shape))
        elif node.op_type == "DequantizeLinear":
            dtype = self.dtype(node.outputs[0]) or "float32"
            view = replace(tensor, dtype=dtype, read=self._dequantized(node, read))
        else:
            return None
        quantized = source.quantized or node.op_type == "DequantizeLinear"
        return replace(source, tensor=view, quantized=quantized)

    def _dequantized(self, node: OnnxNode, read: TensorReader | None) -> TensorReader | None:
        parts = [self.constants.get(name) for name in node.inputs[1:]]
        readers = [part.tensor.read if part else None for part in parts]
        if read is None or not readers or None in readers or node.integer("block_size", 0):
            return None
        scale, *rest = readers
        if scale is None:
            return None
        zero_point = rest[0] if rest else None
        return Dequantized(
            read=read, scale=scale, zero_point=zero_point, axis=node.integer("axis", 1)
        )


def _attempt(compute: Callable[[], T]) -> T | None:
    """The result, or None where the node's inputs and attributes do not fit each other."""
    try:
        return compute()
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        # RuntimeError is NumPy's for more axes than it has.
        return None


def _literal(node: OnnxNode) -> StoredTensor | None:
    """What a Constant node holds, under the name of its output."""
    name = node.outputs[0]
    for key in ("value", "sparse_value"):
        tensor = node.attributes.get(key)
        if isinstance(tensor, StoredTensor):
            return replace(tensor, name=name)
    for key, value in node.attributes.items():
        kind = LITERALS.get(key)
        array = None if kind is None else _attempt(partial(np.array, value, kind))
        if array is not None and array.dtype.kind in "if":
            return StoredTensor(
                name=name, dtype=array.dtype.name, shape=array.shape, read=HeldTensor(array)
            )
    return None


def _merged(declared: TensorType | None, inferred: TensorType) -> TensorType:
    """What the file declares, and where it is silent what follows from the operators."""
    if declared is None:
        return inferred
    shape = declared.shape
    if shape is None:
        shape = inferred.shape
    elif inferred.shape is not None and len(inferred.shape) == len(shape):
        shape = tuple(
            _sharper(said, found) for said, found in zip(shape, inferred.shape, strict=True)
        )
    return TensorType(dtype=declared.dtype or inferred.dtype, shape=shape)


def _sharper(said: int | str | None, found: int | str | None) -> int | str | None:
    if isinstance(said, int):
        return said
    return found if isinstance(found, int) else said or found
