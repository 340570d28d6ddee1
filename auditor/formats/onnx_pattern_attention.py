"""Attention as exporters write it: Q·Kᵀ, scaled and masked, Softmax, ·V, and heads around it.

The projections before and after stay dense layers of their own: they have kernels with fans and
units to judge, and only a name would say to which attention they belong. What is between them is
one call without weights.
"""

from __future__ import annotations

from auditor.formats.onnx_conditions import (
    along_last_axis,
    at_one_index,
    by_one_number,
    is_single,
    key_first,
    over_last_axis,
    query_first,
    sums_pairs,
    swaps_last_axes,
    varies_by_head,
)
from auditor.formats.onnx_pattern_pieces import UNKEPT, X, softmax
from auditor.formats.onnx_patterns import (
    Data,
    Fixed,
    Given,
    Layer,
    Number,
    Pattern,
    Surroundings,
    either,
    near,
    op,
    through,
)
from auditor.graph.operators import Op

#: Heads are split off and merged by order and shape alone; grouped keys are repeated; a packed
#: projection is taken apart.
HEADS = Surroundings(
    before=(
        near("Reshape Transpose Unsqueeze Squeeze Expand Tile Split Slice"),
        near("Gather", at_one_index),
        near("Mul Div", by_one_number),
    ),
    after=(near("Reshape Transpose Unsqueeze Squeeze"),),
)
QUERY, KEY, VALUE = Data("query"), Data("key"), Data("value")
_MASK = Given("mask")
_POSITION_BIAS = Fixed("other", test=varies_by_head)
_LAYOUT = "Reshape Unsqueeze Squeeze"


def _maybe_scaled(of: Pattern, name: str) -> Pattern:
    """x, times a number, or times one that the graph computes from shapes."""
    computed = Fixed(test=is_single)
    return either(
        op("Mul", of, Number(name=name)),
        op("Div", of, Number(name=name, inverse=True)),
        op("Mul", of, computed),
        op("Div", of, computed),
        of,
    )


def _scores() -> Pattern:
    plain = either(
        op("MatMul", _maybe_scaled(QUERY, "query_scale"), _maybe_scaled(KEY, "key_scale")),
        op("Einsum", _maybe_scaled(QUERY, "query_scale"), KEY, test=query_first),
        op("Einsum", KEY, _maybe_scaled(QUERY, "query_scale"), test=key_first),
    )
    scaled = _maybe_scaled(through(_LAYOUT, plain), "scale")
    return either(
        op("Add", scaled, _POSITION_BIAS),
        op("Add", op("Add", scaled, _POSITION_BIAS), _MASK),
        op("Add", op("Add", scaled, _MASK), _MASK),
        op("Add", scaled, _MASK),
        op("Sub", scaled, _MASK),
        op("Where", _MASK, scaled, UNKEPT),
        op("Where", _MASK, UNKEPT, scaled),
        # 0 and 1 turned into −10⁴ and 0 by the mask itself, as early GPT-2 had it.
        op("Sub", op("Mul", scaled, _MASK), _MASK),
        scaled,
    )


def _shares() -> Pattern:
    """The softmax of scores over keys, what is not a number set to zero, or dropped out."""
    plain = softmax(_scores(), along_last_axis)
    shares = either(plain, op("Where", op("IsNaN", plain), UNKEPT, plain))
    return either(op("Dropout", shares), shares)


_MIXED = either(
    op("MatMul", through(_LAYOUT, _shares()), VALUE),
    op("MatMul", VALUE, op("Transpose", _shares(), test=swaps_last_axes)),
    op("Einsum", _shares(), VALUE, test=sums_pairs),
    op("Einsum", VALUE, _shares(), test=sums_pairs),
)

# The second half of a head's width before the first, negated: RoPE as of LLaMA.
_TURNED = op("Concat", op("Neg", op("Slice", X)), op("Slice", X))
_TURNED_SPLIT = op("Concat", op("Neg", op("Split", X, output=1)), op("Split", X, output=0))
_ROTATED = op(
    "Add",
    op("Mul", X, Given("cos")),
    op("Mul", either(_TURNED, _TURNED_SPLIT), Given("sin")),
)

ATTENTION_LAYERS: tuple[Layer, ...] = (
    Layer(
        kind="Attention",
        op=Op.DOT_ATTENTION,
        pattern=_MIXED,
        data=("query", "key", "value", "mask"),
        test=over_last_axis,
        surroundings=HEADS,
    ),
    Layer(
        kind="RotaryEmbedding",
        op=Op.ELEMENTWISE,
        pattern=_ROTATED,
        data=("x", "cos", "sin"),
    ),
)
