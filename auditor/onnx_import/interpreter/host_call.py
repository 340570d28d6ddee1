"""Operators without a derivative or a form on `keras.ops`, computed by NumPy amid tensors.

In eager execution a result is a known value from then on. While a graph is traced it is what a
callback gives, and has to have shapes that follow from the inputs' shapes alone. No gradient passes
through either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference

from auditor.formats.onnx_tensors import DATA_TYPES
from auditor.onnx_import.interpreter.reference import proto
from auditor.onnx_import.interpreter.value import concrete, dtype_of, shape_of
from auditor.onnx_import.operators.table import Node, Unsupported, Value, is_known

Compute = Callable[[Sequence[Value]], tuple[Value, ...]]
#: The names of dtypes by TensorProto.DataType, and back.
NAMES = {number: name for number, (name, _) in DATA_TYPES.items()}
NUMBERS = {name: number for number, name in NAMES.items()}


def host_call(node: Node, inputs: Sequence[Value], compute: Compute) -> tuple[Value, ...]:
    """The outputs of `compute` on the inputs' values.

    Raises `Unsupported` where they are traced and the shapes of the results are not known.
    """
    values = [concrete(value) for value in inputs]
    if all(v is not None or given is None for v, given in zip(values, inputs, strict=True)):
        return compute(values)
    if any(isinstance(value, (list, tuple)) for value in inputs):
        raise Unsupported("it takes a sequence, and runs outside of the compiled graph")
    types = _types(node, inputs)
    traced = [place for place, value in enumerate(inputs) if not (value is None or is_known(value))]

    def on_host(*arrays: Any) -> tuple[np.ndarray[Any, Any], ...]:
        given = list(inputs)
        for place, array in zip(traced, arrays, strict=True):
            given[place] = np.asarray(array)
        results = compute(given)
        return tuple(
            np.asarray(result).astype(dtype).reshape(shape)
            for result, (shape, dtype) in zip(results, types, strict=True)
        )

    tensors = [keras.ops.stop_gradient(inputs[place]) for place in traced]
    return CALLBACKS[keras.backend.backend()](on_host, tensors, types)


Types = Sequence[tuple[tuple[int, ...], str]]


def _tensorflow(function: Callable[..., Any], tensors: list[Any], types: Types) -> tuple[Any, ...]:
    import tensorflow as tf

    results = tf.numpy_function(function, tensors, [dtype for _, dtype in types], stateful=False)
    results = results if isinstance(results, (list, tuple)) else [results]
    return tuple(
        tf.ensure_shape(result, shape) for result, (shape, _) in zip(results, types, strict=True)
    )


def _jax(function: Callable[..., Any], tensors: list[Any], types: Types) -> tuple[Any, ...]:
    import jax

    shapes = tuple(
        jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            shape, jax.dtypes.canonicalize_dtype(dtype)
        )
        for shape, dtype in types
    )

    def canonical(*arrays: Any) -> tuple[Any, ...]:
        results = function(*arrays)
        return tuple(r.astype(s.dtype) for r, s in zip(results, shapes, strict=True))

    return tuple(jax.pure_callback(canonical, shapes, *tensors))


def _torch(function: Callable[..., Any], tensors: list[Any], types: Types) -> tuple[Any, ...]:
    raise Unsupported("it runs outside of the graph, and its inputs are being transformed")


CALLBACKS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "tensorflow": _tensorflow,
    "jax": _jax,
    "torch": _torch,
}


def _types(node: Node, inputs: Sequence[Value]) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each output, by ONNX's own inference."""
    names = [f"i{place}" if value is not None else "" for place, value in enumerate(inputs)]
    outputs = [f"o{place}" for place in range(node.outputs)]
    kinds: dict[str, onnx.TypeProto] = {}
    known: dict[str, onnx.TensorProto] = {}
    for name, value in zip(names, inputs, strict=True):
        if not name:
            continue
        shape = shape_of(value)
        kinds[name] = onnx.helper.make_tensor_type_proto(NUMBERS.get(dtype_of(value), 0), shape)
        if is_known(value):
            known[name] = onnx.numpy_helper.from_array(np.asarray(value))
    try:
        schema = onnx.defs.get_schema(node.kind, node.since, node.domain)
        message = proto(node, names, outputs)
        found = onnx.shape_inference.infer_node_outputs(schema, message, kinds, known)
    except Exception as error:  # native code, with classes of its own
        raise Unsupported(
            "nothing is known of the shape it gives, amid a compiled graph"
        ) from error
    return [_static(found.get(name)) for name in outputs]


def _static(kind: onnx.TypeProto | None) -> tuple[tuple[int, ...], str]:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        raise Unsupported("the shape it gives depends on values, amid a compiled graph")
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        raise Unsupported("the shape it gives depends on values, amid a compiled graph")
    return tuple(int(dim.dim_value) for dim in dims), NAMES[kind.tensor_type.elem_type]
