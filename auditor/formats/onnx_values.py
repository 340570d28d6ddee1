"""What is known of each value in an ONNX graph before it runs: type, small values, constness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from auditor.formats.onnx_dimensions import Case
from auditor.formats.onnx_dtypes import ALIKE, result_dtype
from auditor.formats.onnx_folding import MAX_KNOWN, Known, fold, known
from auditor.formats.onnx_model import OnnxGraph, OnnxNode, TensorType
from auditor.formats.onnx_operators import BODY, OPERATORS
from auditor.formats.onnx_order import needs
from auditor.formats.onnx_shapes import infer
from auditor.formats.onnx_shapes_control import control_types
from auditor.formats.onnx_tensors import HeldTensor, StoredTensor, widened
from auditor.formats.onnx_views import Constant, views
from auditor.graph.layer_graph import Shape

#: Values that come out new at each run, or at each repetition: never constant.
VARYING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike", "Loop", "Scan", "SequenceMap"}
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
            values = widened(tensor.read())
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
        if node.bodies or node.domain == BODY:
            self._follow_control(node)
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
        if fixed:
            self._follow_views(case)

    def _follow_views(self, case: Case) -> None:
        sources = [self.constants.get(name) for name in case.node.inputs]
        kinds = [self.types.get(name, TensorType()) for name in case.node.outputs]
        shown = _attempt(lambda: views(case, sources, kinds)) or ()
        for name, view in zip(case.node.outputs, shown, strict=False):
            if name and view is not None:
                self.constants[name] = view

    def _follow_control(self, node: OnnxNode) -> None:
        """A node whose outputs are those of graphs that were within it, or the inputs of these."""
        kinds = control_types(node, lambda name: self.types.get(name, TensorType()), self.opset)
        chosen = self._chosen(node)
        fixed = node.op_type == "If" and self._is_fixed(node)
        for index, name in enumerate(node.outputs):
            if not name:
                continue
            source = chosen[index] if index < len(chosen) else ""
            guess = kinds[index] if index < len(kinds) else TensorType()
            self.types[name] = _merged(
                self.graph.types.get(name), self.types.get(source, guess) if source else guess
            )
            if fixed or source in self.fixed:
                self.fixed.add(name)
            if source in self.known:
                self.known[name] = self.known[source]
            if source in self.constants:
                self.constants[name] = self.constants[source]

    def _chosen(self, node: OnnxNode) -> tuple[str, ...]:
        """What an If gives, where its condition is known while reading."""
        if node.domain or node.op_type != "If" or not node.inputs:
            return ()
        condition = self.scalar(node.inputs[0])
        if condition is None:
            return ()
        return node.bodies.get("then_branch" if condition else "else_branch", ())

    def _is_fixed(self, node: OnnxNode) -> bool:
        if (node.domain, node.op_type) not in OPERATORS or node.op_type in VARYING:
            return False
        if node.op_type in ("Shape", "Size"):
            return True
        return all(name in self.fixed for name in needs(node))


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
