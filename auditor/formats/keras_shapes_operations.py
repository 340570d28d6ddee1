"""Output shapes of `keras.ops` nodes, where no file records them: last in a model, and in HDF5."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.formats.keras_model import LayerConfig, Node
from auditor.formats.keras_operands import Operands
from auditor.formats.keras_operations import OPERATIONS, names
from auditor.formats.keras_shapes_algebra import ALGEBRA
from auditor.formats.keras_shapes_parts import PARTS
from auditor.formats.keras_shapes_rearranging import REARRANGING
from auditor.formats.keras_shapes_rearranging import OperandRule as Rule
from auditor.formats.shape_arithmetic import HIGHEST_RANK, UNKNOWN, Shapes, broadcast, elements
from auditor.graph.layer_graph import Shape
from auditor.graph.operators import Op

#: Operations of several tensors or constants that are stretched to one shape.
BROADCASTING = names(
    "Add Arctan2 BitwiseAnd BitwiseLeftShift BitwiseOr BitwiseRightShift BitwiseXor Divide "
    "DivideNoNan Equal FloorDivide Fmax Fmin Fmod Gcd Greater GreaterEqual Heaviside Hypot Isclose "
    "Lcm Ldexp LeftShift Less LessEqual Logaddexp Logaddexp2 LogicalAnd LogicalOr LogicalXor "
    "Maximum Minimum Mod Multiply Nextafter NotEqual Polar Power RightShift Select Subtract "
    "TrueDivide Where BinaryCrossentropy"
)
#: Operations whose result has the shape of their first tensor.
SAME = names(
    "AffineTransform Angle Argpartition Argsort AssociativeScan BatchNorm BitwiseInvert BitwiseNot "
    "Cholesky CholeskyInverse Clip Copy Corrcoef Cross Digitize DotProductAttention "
    "ElasticTransform EmptyLike Flip Fliplr Flipud FullLike GaussianBlur HSVToRGB Imag Inv IsIn "
    "Isfinite Isinf Isnan Isneginf Isposinf Isreal LayerNorm LogicalNot Map Nancumprod Nancumsum "
    "OnesLike PerspectiveTransform RGBToHSV RMSNorm Roll Round ScatterUpdate SearchSorted Signbit "
    "SliceUpdate Sort Tril Triu VectorizedMap View ZerosLike Conj Conjugate Real StopGradient "
    "NanToNum Negative"
)
#: Of these the axis None means the flattened tensor, which is what comes out.
FLATTENING = names("Cumprod Cumsum Nancumprod Nancumsum")
#: Kinds of operators of which every unary operation keeps the shape.
_KEEPING = (Op.ELEMENTWISE, Op.ACTIVATION, Op.CAST, Op.IDENTITY, Op.SCALE, Op.UNIT_NORM)


def infer_operation(layer: LayerConfig, op: Op, inputs: Shapes, node: Node | None) -> Shapes:
    """Shapes of a node's outputs; `(None,)` where they are not known."""
    if inputs[0] is None or any(given and len(given) > HIGHEST_RANK for given in inputs):
        return UNKNOWN
    call = Operands.of(layer, inputs, node)
    rule = RULES.get(layer.kind)
    if rule is not None:
        return rule(call)
    if layer.kind in BROADCASTING:
        return (broadcast(call.shapes),)
    if layer.kind in FLATTENING and call.setting("axis") is None:
        return ((elements(call.first),),)
    if layer.kind in SAME:
        return (call.first,)
    known = OPERATIONS.get(layer.kind, op)
    if known is Op.REDUCE:
        return (reduced(call),)
    if known in _KEEPING and len(inputs) == 1:
        return (call.first,)
    if op in (Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.DIVIDE, Op.MAXIMUM, Op.MINIMUM, Op.SCALE):
        return (broadcast(call.shapes),)
    return UNKNOWN


def reduced(call: Operands) -> Shape | None:
    """A shape without the axes that are reduced, or with them as ones."""
    given, keep = call.first, call.flag("keepdims")
    axis = call.setting("axis", None)
    axes = tuple(range(len(given))) if axis is None else call.integers("axis")
    if axes is None or any(not -len(given) <= place < len(given) for place in axes):
        return None
    places = {place % len(given) for place in axes} if given else set()
    return tuple(
        1 if place in places else size
        for place, size in enumerate(given)
        if keep or place not in places
    )


def _moments(call: Operands) -> Shapes:
    given = Operands(
        kind=call.kind,
        inputs=call.inputs,
        settings={**call.settings, "axis": call.setting("axes", 1)},
    )
    return (reduced(given),) * 2


def _quantile(call: Operands) -> Shapes:
    """One result for each quantile asked for, in front of the rest."""
    rest, asked = reduced(call), call.shapes[1] if len(call.shapes) > 1 else ()
    return UNKNOWN if rest is None or asked is None else ((*asked, *rest),)


def _trapezoid(call: Operands) -> Shapes:
    axis = call.integer("axis")
    last = call.first[:-1]
    return (last if axis in (None, -1) else None,)


def _number(_: Operands) -> Shapes:
    return ((),)


def _segments(call: Operands) -> Shapes:
    return ((call.integer("num_segments", 2), *call.first[1:]),)


def _cross_entropy(call: Operands) -> Shapes:
    """One loss an example: the target's axis of classes is gone, or was never there."""
    output = call.shapes[1] if len(call.shapes) > 1 else None
    return UNKNOWN if output is None else (output[:-1],)


RULES: Mapping[str, Rule] = {
    "Moments": _moments,
    **dict.fromkeys(("Quantile", "Nanquantile", "Percentile", "Nanpercentile"), _quantile),
    **dict.fromkeys(("SegmentMax", "SegmentMin", "SegmentProd", "SegmentSum"), _segments),
    **dict.fromkeys(("AllClose", "Size", "PSNR", "Vdot"), _number),
    "Trapezoid": _trapezoid,
    "SSIM": lambda call: (call.first[:1],),
    "CTCLoss": lambda call: (call.first[:1],),
    "CategoricalCrossentropy": _cross_entropy,
    "SparseCategoricalCrossentropy": _cross_entropy,
    "InTopK": lambda call: (call.first,),
    **REARRANGING,
    **PARTS,
    **ALGEBRA,
}
