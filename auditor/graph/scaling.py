"""Multiplication and shift by constants: Rescaling, scale layers, arithmetic with a constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditor.graph.kernel_laws import WeightMoments, weight_moments
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.signal import STANDARD, THROUGH, Signal, Transfer, backward

#: ONNX nodes with a constant operand, which their configuration holds as "A" or "B".
ONNX_KINDS = {"Add": "Add", "Sub": "Subtract", "Mul": "Multiply", "Div": "Divide"}
ONE, ZERO = WeightMoments(mean=1.0, variance=0.0), WeightMoments(mean=0.0, variance=0.0)


def scaling(graph: LayerGraph, call: LayerCall, signals: tuple[Signal, ...]) -> Transfer | None:
    """γ·x + β with constants; the layer Normalization standardises instead."""
    (signal,) = signals[:1]
    if call.kind == "Normalization":
        return Transfer(signal=STANDARD, inputs=(THROUGH,))
    constants = scale_and_offset(graph, call)
    if constants is None:
        return None
    factor, offset = constants
    return Transfer(
        signal=Signal(
            mean=factor.mean * signal.mean + offset.mean,
            between=factor.mean_square * signal.between
            + factor.variance * signal.mean**2
            + offset.variance,
            within=factor.mean_square * signal.within,
            shared=factor.mean_square * signal.shared,
        ),
        inputs=(backward(factor.mean_square, factor.mean**2, factor.mean_square),),
    )


def scale_and_offset(
    graph: LayerGraph, call: LayerCall
) -> tuple[WeightMoments, WeightMoments] | None:
    """Moments of γ and β; None where the call is no SCALE, or its constants are not known."""
    if call.op is not Op.SCALE:
        return None
    if call.kind == "Rescaling":
        factor = _moments(call.config.get("scale"))
        offset = _moments(call.config.get("offset", 0.0))
        return (factor, offset) if factor is not None and offset is not None else None
    if call.kind == "Negative":
        return WeightMoments(mean=-1.0, variance=0.0), ZERO
    arguments = call.config.get("arguments")
    if isinstance(arguments, (list, tuple)):
        return _arithmetic(call.kind, list(arguments[:2]))
    if call.kind in ONNX_KINDS and not call.weights:
        operands = [call.config.get("A"), call.config.get("B")]
        return _arithmetic(ONNX_KINDS[call.kind], operands)
    gamma, beta = weight_moments(graph, call, "gamma"), weight_moments(graph, call, "beta")
    if call.kind in ("Div", "Sub", "Divide", "Subtract") or (gamma is None and beta is None):
        return None
    return gamma or ONE, beta or ZERO


def _arithmetic(kind: str, arguments: list[object]) -> tuple[WeightMoments, WeightMoments] | None:
    """Sums, differences, products, quotients; the tensor among the two arguments is None."""
    constants = [_moments(argument) for argument in arguments]
    known = [constant for constant in constants if constant is not None]
    if len(constants) != 2 or len(known) != 1:
        return None
    (constant,) = known
    first = constants[0] is None
    match kind:
        case "Add":
            return ONE, constant
        case "Subtract":
            negative = WeightMoments(mean=-constant.mean, variance=constant.variance)
            return (ONE, negative) if first else (WeightMoments(mean=-1.0, variance=0.0), constant)
        case "Multiply":
            return constant, ZERO
        case "Divide" | "TrueDivide" if first and constant.variance == 0 and constant.mean:
            return WeightMoments(mean=1 / constant.mean, variance=0.0), ZERO
    return None


def _moments(value: object) -> WeightMoments | None:
    """Mean and variance of a number, or of the numbers of a list or stored tensor."""
    if isinstance(value, Mapping):
        settings = value.get("config")
        value = settings.get("value") if isinstance(settings, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        return None
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if numbers.size == 0 or not np.isfinite(numbers).all():
        return None
    return WeightMoments(mean=float(numbers.mean()), variance=float(numbers.var()))
