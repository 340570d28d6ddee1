"""Shapes of what ONNX operators give, from the shapes and known values of what they take.

In Python, because native shape inference crashes on crafted models. Where the outcome is not sure,
a dimension is None, and where not even the rank is, the shape is. Formulas are those of the ONNX
operator specification (Operators.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from auditor.formats import onnx_shapes_layout as layout
from auditor.formats import onnx_shapes_spatial as spatial
from auditor.formats.onnx_dimensions import (
    Case,
    Rule,
    Shapes,
    broadcast,
    by_operator,
    dims_of,
    replaced,
)
from auditor.formats.onnx_symbols import Dim
from auditor.graph.layer_graph import Shape


def infer(case: Case) -> tuple[Shape | None, ...]:
    """Shapes of a node's outputs, as many as are known of."""
    if case.node.domain:
        return ()
    rule = RULES.get(case.node.op_type)
    if rule is None:
        return ()
    result = rule(case)
    shapes = result if isinstance(result, list) else [result]
    return tuple(None if shape is None else dims_of(shape) for shape in shapes)


def _same(case: Case) -> Shape | None:
    return case.shape()


def _same_first_two(case: Case) -> Shapes:
    return [case.shape(), case.shape()]


def _broadcast(case: Case) -> Shape | None:
    if 0 < case.opset < 7 and case.node.integer("broadcast", 0):
        return case.shape()  # the second operand alone is stretched
    shapes = [shape for shape in case.shapes if shape is not None]
    return broadcast(*shapes) if shapes and len(shapes) == len(case.shapes) else None


def _reduce(case: Case) -> Shape | None:
    shape = case.shape()
    keep = case.node.integer("keepdims", 1)
    axes = case.node.integers("axes")
    if axes is None and case.given(1):
        given = case.value(1)
        if given is None:
            return (None,) * len(shape) if shape is not None and keep else None
        axes = tuple(given)
    if shape is None:
        return None
    if not axes:
        if case.node.integer("noop_with_empty_axes", 0):
            return shape
        axes = tuple(range(len(shape)))
    gone = {axis % len(shape) for axis in axes} if shape else set()
    if keep:
        return tuple(1 if axis in gone else dim for axis, dim in enumerate(shape))
    return tuple(dim for axis, dim in enumerate(shape) if axis not in gone)


def _arg(case: Case) -> Shape | None:
    shape = case.shape()
    if shape is None:
        return None
    axis = case.node.integer("axis", 0) % len(shape)
    if case.node.integer("keepdims", 1):
        return replaced(shape, {axis: 1})
    return shape[:axis] + shape[axis + 1 :]


def _top_k(case: Case) -> Shapes:
    shape, count = case.shape(), case.value(1)
    if shape is None:
        return [None, None]
    wanted = count[0] if count else case.node.attributes.get("k")
    axis = case.node.integer("axis", -1)
    result = replaced(shape, {axis: wanted if isinstance(wanted, int) else None})
    return [result, result]


# -- products --------------------------------------------------------------------------------------


def _matmul(case: Case, left: int = 0, right: int = 1) -> Shape | None:
    a, b = case.shape(left), case.shape(right)
    if not a or not b:
        return None
    if len(a) == 1 and len(b) == 1:
        return ()
    if len(a) == 1:
        return (*b[:-2], b[-1])
    if len(b) == 1:
        return a[:-1]
    return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def _qlinear_matmul(case: Case) -> Shape | None:
    return _matmul(case, 0, 3)


def _gemm(case: Case) -> Shape | None:
    a, b = case.shape(0), case.shape(1)
    rows = None if a is None else a[1 if case.node.integer("transA", 0) else 0]
    columns = None if b is None else b[0 if case.node.integer("transB", 0) else 1]
    return rows, columns


def _einsum(case: Case) -> Shape | None:
    equation = case.node.text("equation").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if "." in equation or any(shape is None for shape in case.shapes):
        return None
    if not arrow:
        letters = terms.replace(",", "")
        result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    sizes: dict[str, Dim] = {}
    for term, shape in zip(terms.split(","), case.shapes, strict=True):
        for letter, dim in zip(term, shape or (), strict=True):
            if not isinstance(sizes.get(letter), int):
                sizes[letter] = dim if dim is not None else sizes.get(letter)
    return tuple(sizes[letter] for letter in result)


def _attention(case: Case) -> Shape | None:
    query, value = case.shape(0), case.shape(2)
    if query is None or value is None or len(query) != len(value):
        return None
    if len(query) == 4:
        return (*query[:3], value[3])
    heads, groups = (case.node.integer(name, 0) for name in ("q_num_heads", "kv_num_heads"))
    width = value[2]
    if heads == groups:
        return (*query[:2], width)
    known = isinstance(width, int) and heads > 0 and groups > 0
    return (*query[:2], width * heads // groups if known and isinstance(width, int) else None)


#: Shape rules by operator.
RULES: Mapping[str, Rule] = {
    **by_operator(
        {
            _same: """
        Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh
        CumProd CumSum DequantizeLinear Elu Erf Exp Floor Gelu HardSigmoid HardSwish Hardmax
        Identity InstanceNormalization IsInf IsNaN LRN LeakyRelu Log LogSoftmax LpNormalization
        MeanVarianceNormalization Mish Neg Not PRelu QuantizeLinear RandomNormalLike
        RandomUniformLike Reciprocal Relu ReverseSequence RotaryEmbedding Round Scatter
        ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt
        Swish Tan Tanh TensorScatter ThresholdedRelu Trilu GroupNormalization RMSNormalization
        Bernoulli EyeLike""",
            _same_first_two: "Dropout",
            _broadcast: """
        Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less
        LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum SwiGLU Where Xor""",
            _reduce: """
        ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare""",
            _arg: "ArgMax ArgMin",
            _top_k: "TopK",
            _matmul: "MatMul MatMulInteger",
            _qlinear_matmul: "QLinearMatMul",
            _gemm: "Gemm",
            _einsum: "Einsum",
            _attention: "Attention",
        }
    ),
    **spatial.RULES,
    **layout.RULES,
}
