"""Normalizations as exporters write them where the format or its version has no operator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from auditor.formats.onnx_conditions import (
    any_axes,
    channel_axis,
    last_axes,
    last_features,
    plain_norm,
    reduced_axes,
    reductions_over,
    spatial_axes,
)
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.onnx_pattern_pieces import (
    BETA,
    GAMMA,
    X,
    affine,
    inverse,
    inverse_root,
    mean,
    relu,
    root,
    spread,
    square,
)
from auditor.formats.onnx_patterns import Layer, NodeTest, Number, Pattern, either, op, product
from auditor.formats.onnx_values import Values
from auditor.graph.operators import Op

EPSILON = Number(name="epsilon")


def one_population(nodes: Sequence[OnnxNode], numbers: Mapping[str, float], values: Values) -> bool:
    """Whether all means are over the same axes, and sums are divided by the number they sum."""
    if len(reductions_over(nodes, values)) > 1:
        return False
    sums = [node for node in nodes if node.op_type == "ReduceSum"]
    return all(_is_share(node, numbers.get("share", 0.0), values) for node in sums)


def _is_share(node: OnnxNode, share: float, values: Values) -> bool:
    shape, axes = values.shape(node.inputs[0]), reduced_axes(node, values)
    if not shape or not axes:
        return False
    sizes = [shape[axis] for axis in axes]
    count = math.prod(size for size in sizes if isinstance(size, int))
    known = all(isinstance(size, int) for size in sizes)
    return known and math.isclose(share * count, 1.0, rel_tol=1e-3)


def _normalized(x: Pattern, test: NodeTest) -> Pattern:
    """(x − μ)/σ·γ + β, as torch, TensorFlow and JAX write it; μ and σ over axes passing `test`."""
    average = mean(x, test)
    laid_out = spread(average)
    centred = op("Sub", x, laid_out)
    # E[x²] − E[x]² is the way of Keras and of Flax, perhaps kept from below 0.
    difference = op("Sub", mean(square(x), test), square(average))
    variance = either(mean(square(centred), test), difference, relu(difference))
    floored = op("Add", spread(variance), EPSILON)
    deviation = either(root(floored), op("Add", root(variance), EPSILON))
    inverted = either(inverse_root(floored), inverse(op("Add", root(variance), EPSILON)))
    # TensorFlow multiplies γ/σ out first: x·(γ/σ) + (β − μ·(γ/σ)).
    rate = either(op("Mul", inverted, GAMMA), inverted)
    shift = either(
        op("Sub", BETA, op("Mul", laid_out, rate)),
        op("Add", op("Mul", op("Neg", laid_out), rate), BETA),
        op("Mul", op("Neg", laid_out), rate),
    )
    return either(
        op("Add", op("Mul", x, rate), shift),
        op("Sub", op("Mul", x, rate), op("Mul", laid_out, rate)),
        affine(either(op("Div", centred, deviation), op("Mul", centred, inverted))),
        op("Add", op("Mul", centred, rate), BETA),
        op("Mul", centred, rate),
    )


_MEAN_SQUARE = op("Add", spread(mean(square(X), last_axes)), EPSILON)
_BY_RMS = either(op("Div", X, root(_MEAN_SQUARE)), op("Mul", X, inverse_root(_MEAN_SQUARE)))
_NORM = either(op("ReduceL2 ReduceL1", X), op("Sqrt", op("ReduceSum", square(X))))
_GROUPED = op("Reshape", X)

NORMS: tuple[Layer, ...] = (
    Layer(
        kind="LayerNormalization",
        op=Op.LAYER_NORM,
        pattern=either(_normalized(X, last_features), _normalized(X, channel_axis)),
        test=one_population,
    ),
    Layer(
        kind="InstanceNormalization",
        op=Op.INSTANCE_NORM,
        pattern=_normalized(X, spatial_axes),
        test=one_population,
    ),
    Layer(
        kind="GroupNormalization",
        op=Op.GROUP_NORM,
        pattern=either(
            affine(op("Reshape", op("InstanceNormalization", _GROUPED, test=plain_norm))),
            affine(op("Reshape", _normalized(_GROUPED, any_axes))),
        ),
        test=one_population,
    ),
    Layer(
        kind="RMSNormalization",
        op=Op.RMS_NORM,
        pattern=either(
            op("Mul", _BY_RMS, GAMMA),
            product(X, inverse_root(_MEAN_SQUARE), GAMMA),
            _BY_RMS,
        ),
        test=one_population,
    ),
    Layer(
        kind="LpNormalization",
        op=Op.UNIT_NORM,
        pattern=either(
            op("Div", X, _NORM),
            op("Div", X, op("Clip Max Add Expand", _NORM)),
            op("Div", X, op("Expand", op("Clip Max Add", _NORM))),
            product(X, inverse(_NORM)),
            product(X, op("Min", inverse(_NORM))),
            product(X, op("Min", inverse(_NORM)), GAMMA),
        ),
    ),
)
