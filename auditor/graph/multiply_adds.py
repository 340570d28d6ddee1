"""Multiply-adds of one layer call, by its operator.

A multiply-add (MAC) is one product added to a sum: half of what is counted as two floating-point
operations elsewhere. It is what dense layers, convolutions, recurrence, attention and products of
tensors are made of; everything else is counted as element operations. As is usual, the zeros of
padding count as values, and so do masked positions of attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from auditor.graph.attention_sizes import attention_sizes, projection
from auditor.graph.dimensions import (
    channels,
    dimension,
    own_config,
    reversed_embedding,
    sizes,
)
from auditor.graph.layer_graph import LayerCall, Shape
from auditor.graph.operators import Op
from auditor.graph.sample_sizes import (
    CallSizes,
    UnknownSize,
    last_axis,
    unseen_steps,
    whole_quotient,
)

#: What carries no kernel but computes transforms: its sums are not counted.
TRANSFORMING_KINDS = frozenset({"DFT", "MelSpectrogram", "STFT", "STFTSpectrogram"})


def multiply_adds(call: LayerCall, call_sizes: CallSizes) -> int:
    """Multiply-adds of the call for one sample, as at inference.

    Raises:
        UnknownSize: a size it takes is not known, or what the call computes.
    """
    if call.kind in TRANSFORMING_KINDS:
        raise UnknownSize(f"the sums of {call.kind} are not counted")
    count = COUNTS.get(call.op)
    return 0 if count is None else count(call, call_sizes)


Count = Callable[[LayerCall, CallSizes], int]


def _kernel_at_outputs(call: LayerCall, call_sizes: CallSizes) -> int:
    """Each position of the output takes the whole kernel: dense, convolution, any rank or groups.

    Positions × values in the kernel; depthwise kernels (…, channels, multiplier) as well, since
    their units number the output's channels.
    """
    shape, units = _kernel(call, "depthwise_kernel" if _has(call, "depthwise_kernel") else "kernel")
    return whole_quotient(call_sizes.output(), units) * math.prod(shape)


def _kernel_at_inputs(call: LayerCall, call_sizes: CallSizes) -> int:
    """A transposed convolution: each position of the input meets the whole kernel."""
    shape, _ = _kernel(call, "kernel")
    width = channels(call.in_shape, call) or last_axis(call.in_shape)
    return whole_quotient(call_sizes.input(0), width) * math.prod(shape)


def _separable(call: LayerCall, call_sizes: CallSizes) -> int:
    """Depthwise and pointwise at every position of the output."""
    depthwise, _ = _kernel(call, "depthwise_kernel")
    pointwise, units = _kernel(call, "pointwise_kernel")
    positions = whole_quotient(call_sizes.output(), units)
    return positions * (math.prod(depthwise) + math.prod(pointwise))


def _local(call: LayerCall, call_sizes: CallSizes) -> int:
    """Every output has its own weights for its window; how these are stored differs."""
    window = sizes(own_config(call).get("kernel_size"))
    width = channels(call.in_shape, call)
    if width is None:
        raise UnknownSize("the channels of its input are not known")
    return call_sizes.output() * math.prod(window) * width


def _einsum_dense(call: LayerCall, call_sizes: CallSizes) -> int:
    kernel = call.weight("kernel")
    if kernel is None:
        raise UnknownSize("the shape of its kernel is not known")
    equation = own_config(call).get("equation")
    if isinstance(equation, str) and not call.nodes:
        return _einsum(equation, (call.in_shape, kernel.shape), call_sizes)
    if kernel.fan_in is None:
        raise UnknownSize("what its kernel sums over is not known")
    return call_sizes.output() * kernel.fan_in


def _embedding(call: LayerCall, call_sizes: CallSizes) -> int:
    """A lookup multiplies nothing; the reverse of an embedding is a dense layer to the tokens."""
    if not reversed_embedding(call):
        return 0
    return call_sizes.output() * last_axis(call.in_shape)


def _recurrent(call: LayerCall, call_sizes: CallSizes) -> int:
    """Steps × values in all kernels: both directions, all gates and all cells of a stack."""
    kernels = [w for w in call.weights if w.role in ("kernel", "recurrent_kernel")]
    if not kernels or any(w.role == "other" and len(w.shape) > 1 for w in call.weights):
        raise UnknownSize("what its cell computes is not known")
    steps = whole_quotient(call_sizes.input(0), last_axis(call.in_shape))
    return steps * sum(kernel.size for kernel in kernels)


def _conv_recurrent(call: LayerCall, call_sizes: CallSizes) -> int:
    """Per step, both kernels at every position of the state."""
    kernel, units = _kernel(call, "kernel")
    recurrent, _ = _kernel(call, "recurrent_kernel")
    positions = whole_quotient(call_sizes.output(), units // 4) * unseen_steps(call)
    return positions * (math.prod(kernel) + math.prod(recurrent))


def _attention(call: LayerCall, call_sizes: CallSizes) -> int:
    """Projections of query, key, value and output, and the attention itself."""
    extent = attention_sizes(call, call_sizes)
    gates = sum(w.size for w in call.weights if w.name.startswith("gate/") and len(w.shape) > 1)
    around = projection(call, "query").size + projection(call, "output").size + gates
    return (
        extent.queries * around
        + extent.keys * projection(call, "key").size
        + extent.values * projection(call, "value").size
        + extent.multiply_adds
    )


def _dot_attention(call: LayerCall, call_sizes: CallSizes) -> int:
    """Scores and weighted values of what is given."""
    return attention_sizes(call, call_sizes).multiply_adds


def _product(call: LayerCall, call_sizes: CallSizes) -> int:
    """A product of two computed tensors: elements of the output × what each sums over."""
    equation = call.config.get("equation", call.config.get("subscripts"))
    if isinstance(equation, str) and call.kind == "Einsum":
        return _einsum(equation, call.in_shapes, call_sizes)
    if call.kind == "Outer":
        return call_sizes.output()
    axis = _summed_axis(call)
    summed = dimension(call.in_shape, axis)
    if summed is None:
        raise UnknownSize("the size of the axis it sums over is not known")
    return call_sizes.output() * summed


def _summed_axis(call: LayerCall) -> int:
    """The axis of the first input that is summed over."""
    if call.kind in ("Matmul", "MatMul", "MatMulInteger", "QLinearMatMul"):
        arguments = call.config.get("arguments")
        first = not isinstance(arguments, (list, tuple)) or not arguments or arguments[0] is None
        return -1 if first else -2
    if call.kind == "Gemm":
        return 0 if call.config.get("transA") else -1
    if call.op is Op.DOT:
        axes = call.config.get("axes", -1)
        axis = axes[0] if isinstance(axes, (list, tuple)) and axes else axes
        return axis if isinstance(axis, int) else -1
    raise UnknownSize(f"the multiply-adds of {call.kind} are not counted")


def _einsum(equation: str, shapes: tuple[Shape | None, ...], call_sizes: CallSizes) -> int:
    """One multiply-add for every combination of all letters' values.

    Where the output's size is known, that is its elements times the values of the letters that are
    summed, and the sizes of the others need not be known.
    """
    operands, _, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    if len(terms) != 2 or len(shapes) != 2:
        raise UnknownSize("an einsum of other than two tensors is not counted")
    letters: dict[str, int | None] = {}
    for slot, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        left, _, right = term.partition("...")
        if shape is None or len(left) + len(right) > len(shape):
            raise UnknownSize(f"the shape of its input {slot} is not known")
        inner = len(shape) - len(right)
        named = dict(enumerate(left))
        named.update({inner + axis: letter for axis, letter in enumerate(right)})
        for axis, size in enumerate(shape):
            letter = named.get(axis, f"…{len(shape) - axis}")
            known = size if isinstance(size, int) else call_sizes.rows if axis == 0 else None
            letters[letter] = max(letters.get(letter) or known, known) if known else None
    output = call_sizes.outputs[0] if call_sizes.outputs else None
    if result and output is not None:
        letters = {
            letter: size for letter, size in letters.items() if letter[0] not in f"…{result}"
        }
    found = [size for size in letters.values() if size is not None]
    if len(found) < len(letters):
        raise UnknownSize("the size of an axis it sums over is not known")
    return math.prod(found) * (output if result and output is not None else 1)


def _unknown(call: LayerCall, _: CallSizes) -> int:
    raise UnknownSize(call.note or "what it computes is not known")


COUNTS: Mapping[Op, Count] = {
    Op.DENSE: _kernel_at_outputs,
    Op.CONV: _kernel_at_outputs,
    Op.DEPTHWISE_CONV: _kernel_at_outputs,
    Op.SEPARABLE_CONV: _separable,
    Op.CONV_TRANSPOSE: _kernel_at_inputs,
    Op.LOCALLY_CONNECTED: _local,
    Op.EINSUM_DENSE: _einsum_dense,
    Op.EMBEDDING: _embedding,
    Op.SIMPLE_RNN: _recurrent,
    Op.LSTM: _recurrent,
    Op.GRU: _recurrent,
    Op.RECURRENT: _recurrent,
    Op.CONV_LSTM: _conv_recurrent,
    Op.ATTENTION: _attention,
    Op.DOT_ATTENTION: _dot_attention,
    Op.MATMUL: _product,
    Op.DOT: _product,
    Op.CONTROL: _unknown,
    Op.OPAQUE: _unknown,
}


def _has(call: LayerCall, role: str) -> bool:
    return call.weight(role) is not None


def _kernel(call: LayerCall, role: str) -> tuple[tuple[int, ...], int]:
    """Shape of the kernel and number of its units; a kernel may be computed, as the second input.

    Where a format does not say which axes number the units, they are the last (Keras) or the first
    (ONNX convolutions).
    """
    weight = call.weight(role)
    if weight is not None:
        axes = weight.unit_axes
        if axes and all(-len(weight.shape) <= axis < len(weight.shape) for axis in axes):
            return weight.shape, math.prod(weight.shape[axis] for axis in axes)
        if weight.fan_in is None:
            raise UnknownSize("which axes of its kernel number its units is not known")
        return weight.shape, 1
    given = call.in_shapes[1] if len(call.in_shapes) > 1 else None
    shape = tuple(size for size in given or () if isinstance(size, int))
    if given is None or len(shape) < max(len(given), 2):
        raise UnknownSize("the shape of its kernel is not known")
    if call.op is Op.DEPTHWISE_CONV and not call.nodes:
        return shape, shape[-2] * shape[-1]
    return shape, shape[0] if call.nodes else shape[-1]
