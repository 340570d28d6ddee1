"""onnxruntime's operators on quantised numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from keras import ops

from .numbers import at_least_single, mean, product
from .pooling import average_pool
from .quantization import (
    centred,
    dequantize_linear,
    dequantized,
    quantize_linear,
    quantized,
    rounded_through,
    rows,
)
from .recurrent import Direction, direction_names, functions_of, lstm_step, recurred
from .table import Node, Unsupported, Value, operator
from .tensors import cast, dtype_of, tensor

microsoft = partial(operator, domain="com.microsoft")
THROUGH = "the rounding of activations passes the derivative straight through"

microsoft("QuantizeLinear", differentiable=False)(quantize_linear)
microsoft("DequantizeLinear")(dequantize_linear)


@microsoft("DynamicQuantizeMatMul", note=THROUGH)
def dynamic_quantize_matmul(
    node: Node,
    a: Value,
    b: Value,
    b_scale: Value,
    b_zero_point: Value = None,
    bias: Value = None,
) -> Value:
    """The product of a, quantised by its own range, and a quantised matrix, in floats."""
    a = tensor(a)
    y = product(rounded_through(a), dequantized(b, b_scale, b_zero_point, dtype_of(a)))
    return y if bias is None else y + tensor(bias)


@microsoft("MatMulIntegerToFloat")
def matmul_integer_to_float(
    node: Node,
    a: Value,
    b: Value,
    a_scale: Value,
    b_scale: Value,
    a_zero_point: Value = None,
    b_zero_point: Value = None,
    bias: Value = None,
) -> Value:
    """The product of two quantised matrices, in floats."""
    exact = product(centred(a, rows(a_zero_point)), centred(b, b_zero_point))
    dtype = dtype_of(a_scale)
    y = cast(exact, dtype) * (tensor(rows(a_scale)) * tensor(b_scale))
    return y if bias is None else y + tensor(bias)


@microsoft("DynamicQuantizeLSTM", note=THROUGH)
def dynamic_quantize_lstm(
    node: Node,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h0: Value = None,
    c0: Value = None,
    p: Value = None,
    w_scale: Value = None,
    w_zero_point: Value = None,
    r_scale: Value = None,
    r_zero_point: Value = None,
) -> Value:
    """An LSTM of quantised weights (D, I, 4 · H) and (D, H, 4 · H).

    The input as a whole, and the state at each step, are quantised by their own ranges.
    """
    x = tensor(x)
    dtype = dtype_of(x)
    w = dequantized(w, _by_direction(w_scale), _by_direction(w_zero_point), dtype)
    r = dequantized(r, _by_direction(r_scale), _by_direction(r_zero_point), dtype)
    backward = direction_names(node)
    functions = functions_of(node, ("Sigmoid", "Tanh", "Tanh"), len(backward))
    half = w.shape[2]
    b = None if b is None else tensor(b)
    directions = [
        Direction(
            w=w[number],
            r=r[number],
            wb=None if b is None else b[number, :half],
            rb=None if b is None else b[number, half:],
            p=None if p is None else tensor(p)[number],
            functions=functions[number],
            backward=backward[number],
        )
        for number in range(len(backward))
    ]
    return recurred(node, x, directions, lstm_step, lengths, (h0, c0), _through)


@microsoft("QLinearAdd", differentiable=False)
def qlinear_add(node: Node, *inputs: Value) -> Value:
    """The sum of two quantised tensors, quantised."""
    return _of_two(inputs, ops.add)


@microsoft("QLinearMul", differentiable=False)
def qlinear_mul(node: Node, *inputs: Value) -> Value:
    """The product of two quantised tensors, element by element, quantised."""
    return _of_two(inputs, ops.multiply)


@microsoft("QLinearSigmoid", differentiable=False)
def qlinear_sigmoid(node: Node, *inputs: Value) -> Value:
    """The sigmoid of a quantised tensor, quantised."""
    return _of_one(inputs, ops.sigmoid)


@microsoft("QLinearLeakyRelu", differentiable=False)
def qlinear_leaky_relu(node: Node, *inputs: Value) -> Value:
    """LeakyRelu of a quantised tensor, quantised."""
    alpha = float(node.get("alpha", 0.01))
    return _of_one(inputs, lambda x: ops.where(ops.greater(x, 0), x, alpha * x))


@microsoft("QLinearSoftmax", differentiable=False)
def qlinear_softmax(node: Node, *inputs: Value) -> Value:
    """Softmax of a quantised tensor along an axis, quantised; before opset 13 from it on."""
    axis = int(node.get("axis", -1))
    if int(node.get("opset", 13)) < 13 and axis % len(inputs[0].shape) != len(inputs[0].shape) - 1:
        raise Unsupported("a softmax over several axes")
    return _of_one(inputs, lambda x: ops.softmax(x, axis=axis))


@microsoft("QLinearAveragePool", differentiable=False)
def qlinear_average_pool(node: Node, *inputs: Value) -> Value:
    """AveragePool of a quantised tensor, quantised."""
    if node.get("channels_last", 0):
        raise Unsupported("channels last")
    return _of_one(inputs, lambda x: average_pool(node, x))


@microsoft("QLinearGlobalAveragePool", differentiable=False)
def qlinear_global_average_pool(node: Node, *inputs: Value) -> Value:
    """The mean of each quantised feature map, quantised."""
    rank = len(inputs[0].shape)
    first = 1 if node.get("channels_last", 0) else 2
    axes = tuple(range(first, first + rank - 2))
    return _of_one(inputs, lambda x: mean(x, axes))


@microsoft("QLinearConcat", differentiable=False)
def qlinear_concat(node: Node, y_scale: Value, y_zero_point: Value, *parts: Value) -> Value:
    """Quantised tensors joined, each with its own scale and zero point before."""
    wide = [_float(*parts[place : place + 3]) for place in range(0, len(parts), 3)]
    return _quantized(ops.concatenate(wide, axis=int(node.get("axis"))), y_scale, y_zero_point)


@microsoft("QGemm", note="the output quantised, or in floats")
def q_gemm(
    node: Node,
    a: Value,
    a_scale: Value,
    a_zero_point: Value,
    b: Value,
    b_scale: Value,
    b_zero_point: Value,
    c: Value = None,
    y_scale: Value = None,
    y_zero_point: Value = None,
) -> Value:
    """The sum alpha · a b + c of quantised matrices, c in the scale of the product."""
    a, b = centred(a, a_zero_point), tensor(b)
    a = ops.swapaxes(a, 0, 1) if node.get("transA", 0) else a
    if node.get("transB", 0):
        b = ops.swapaxes(b, 0, 1)
    exact = product(a, centred(b, b_zero_point))
    if c is not None:
        exact = exact + cast(c, "int32")
    scale = cast(a_scale, "float32") * cast(b_scale, "float32") * float(node.get("alpha", 1.0))
    y = ops.cast(exact, "float32") * scale
    return y if y_scale is None else _quantized(y, y_scale, y_zero_point)


def _through(a: Value, b: Value) -> Value:
    return product(rounded_through(a), b)


def _by_direction(value: Value) -> Value:
    """(D) or (D, 4 · H) in a shape that broadcasts over (D, I, 4 · H)."""
    if value is None:
        return None
    return value[:, None, None] if len(value.shape) == 1 else value[:, None, :]


def _float(x: Value, scale: Value, zero_point: Value) -> Value:
    return dequantized(x, scale, zero_point, at_least_single(dtype_of(scale)))


def _quantized(y: Value, scale: Value, zero_point: Value) -> Value:
    dtype = "uint8" if zero_point is None else dtype_of(zero_point)
    return quantized(y, cast(scale, dtype_of(y)), zero_point, dtype)


def _of_one(inputs: tuple[Value, ...], function: Callable[[Value], Value]) -> Value:
    x, scale, zero_point, y_scale, *rest = inputs
    return _quantized(function(_float(x, scale, zero_point)), y_scale, *(rest or (None,)))


def _of_two(inputs: tuple[Value, ...], function: Callable[[Value, Value], Value]) -> Value:
    y = function(_float(*inputs[:3]), _float(*inputs[3:6]))
    return _quantized(y, inputs[6], inputs[7] if len(inputs) > 7 else None)
