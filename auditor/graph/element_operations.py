"""Element operations of one layer call: all that is not a multiply-add.

An element operation is one function of one element, or one element taken into a running sum or
maximum: a bias added, an activation, an element normalized, one operand of a merge beyond the
first, one element of a pooling window. What only moves values (reshapes, slices, concatenation)
and what acts in training only has none. It is a coarse measure: a sigmoid costs more than a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from auditor.graph.attention_sizes import attention_sizes
from auditor.graph.dimensions import own_config, window
from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import AFFINE_OPS, MERGE_OPS, NORMALIZATION_OPS, Op
from auditor.graph.sample_sizes import (
    CallSizes,
    UnknownSize,
    last_axis,
    unseen_steps,
    whole_quotient,
)

#: Element operations of one unit in one step, biases and activations included. LSTM (Hochreiter &
#: Schmidhuber 1997, with forget gate): 4 biases, 5 activations, 3 products, 1 sum. GRU (Cho et al.
#: 2014): 3 biases, 3 activations, 3 products, 2 sums. Simple recurrence: bias and activation.
PER_STEP: Mapping[Op, int] = {Op.LSTM: 13, Op.CONV_LSTM: 13, Op.GRU: 11, Op.SIMPLE_RNN: 2}
#: Interpolations that compute: each element of the output from two on each axis.
INTERPOLATING = frozenset({"bilinear", "linear", "bicubic", "cubic", "lanczos3", "lanczos5"})


def element_operations(call: LayerCall, call_sizes: CallSizes) -> int:
    """Element operations of the call for one sample, as at inference.

    Raises:
        UnknownSize: a size it takes is not known, or what the call computes.
    """
    count = COUNTS.get(call.op)
    return 0 if count is None else count(call, call_sizes)


Count = Callable[[LayerCall, CallSizes], int]


def _of_outputs(_: LayerCall, call_sizes: CallSizes) -> int:
    return call_sizes.output()


def _of_inputs(_: LayerCall, call_sizes: CallSizes) -> int:
    return call_sizes.input(0)


def _tail(call: LayerCall, call_sizes: CallSizes) -> int:
    """Bias and fused activation of a call with a kernel."""
    steps = (call.weight("bias") is not None) + (call.activation is not None)
    return steps * call_sizes.output() if steps else 0


def _merge(call: LayerCall, call_sizes: CallSizes) -> int:
    return (max(len(call.in_shapes), 2) - 1) * call_sizes.output()


def _pool(call: LayerCall, call_sizes: CallSizes) -> int:
    positions = window(call)
    if positions is None:
        raise UnknownSize("the size of its window is not known")
    return call_sizes.output() * int(positions)


def _recurrent(call: LayerCall, call_sizes: CallSizes) -> int:
    per_step = PER_STEP.get(call.op)
    recurrent = [weight for weight in call.weights if weight.role == "recurrent_kernel"]
    if per_step is None or not recurrent:
        raise UnknownSize("what its cell computes is not known")
    # (units, gates · units) in Keras; (directions, gates · units, units) in ONNX.
    units = sum(
        weight.shape[0] * weight.shape[-1] if len(weight.shape) == 3 else weight.shape[0]
        for weight in recurrent
    )
    return per_step * units * whole_quotient(call_sizes.input(0), last_axis(call.in_shape))


def _conv_recurrent(call: LayerCall, call_sizes: CallSizes) -> int:
    return PER_STEP[Op.CONV_LSTM] * call_sizes.output() * unseen_steps(call)


def _attention(call: LayerCall, call_sizes: CallSizes) -> int:
    """Biases of the projections, and the softmax of the scores of every head."""
    extent = attention_sizes(call, call_sizes)
    behind = {"key": extent.keys, "value": extent.values}
    biases = sum(
        weight.size * behind.get(weight.name.partition("/")[0], extent.queries)
        for weight in call.weights
        if weight.role == "bias"
    )
    return biases + extent.pairs


def _upsample(call: LayerCall, call_sizes: CallSizes) -> int:
    config = own_config(call)
    how = config.get("interpolation", config.get("mode", "nearest"))
    return call_sizes.output() if how in INTERPOLATING else 0


def _unknown(call: LayerCall, _: CallSizes) -> int:
    raise UnknownSize(call.note or "what it computes is not known")


COUNTS: Mapping[Op, Count] = {
    **dict.fromkeys(AFFINE_OPS, _tail),
    **dict.fromkeys(NORMALIZATION_OPS, _of_outputs),
    **dict.fromkeys(MERGE_OPS - {Op.CONCATENATE, Op.STACK, Op.DOT, Op.MATMUL}, _merge),
    Op.SIMPLE_RNN: _recurrent,
    Op.LSTM: _recurrent,
    Op.GRU: _recurrent,
    Op.RECURRENT: _recurrent,
    Op.CONV_LSTM: _conv_recurrent,
    Op.ATTENTION: _attention,
    Op.DOT_ATTENTION: _attention,
    Op.MAX_POOL: _pool,
    Op.AVERAGE_POOL: _pool,
    Op.GLOBAL_MAX_POOL: _of_inputs,
    Op.GLOBAL_AVERAGE_POOL: _of_inputs,
    Op.REDUCE: _of_inputs,
    Op.ACTIVATION: _of_outputs,
    Op.SCALE: _of_outputs,
    Op.ELEMENTWISE: _of_outputs,
    Op.WHERE: _of_outputs,
    Op.COMPARE: _of_outputs,
    Op.QUANTIZE: _of_outputs,
    Op.UPSAMPLE: _upsample,
    Op.CONTROL: _unknown,
    Op.OPAQUE: _unknown,
    Op.PREPROCESSING: _unknown,
}
