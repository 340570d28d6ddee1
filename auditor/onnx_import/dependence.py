"""How a layer call's outputs depend on its inputs, as far as its operators alone tell.

Composed node by node; of an operator that is not in the table here, nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditor.formats.onnx_model import OnnxNode
from auditor.onnx_import.layer_run import LayerRun, Sizes
from auditor.onnx_import.operators.numbers import NAMES
from auditor.onnx_import.operators.table import Node, Value
from auditor.onnx_import.operators.tensors import is_float


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """What is known for certain of a value as a function of its call's tensors.

    in_place: every number depends on those at its own place of each tensor, and on no other.
    selects: every number is one of theirs, or a constant. affine: the derivative is the same for
    all values they take. by_sample: along the first axis lie samples, as along theirs, and they do
    not meet. any_batch: it can be computed for any number of samples.
    """

    in_place: bool = False
    selects: bool = False
    affine: bool = False
    by_sample: bool = False
    any_batch: bool = False


UNKNOWN = Dependence()
ITSELF = Dependence(in_place=True, selects=True, affine=True, by_sample=True, any_batch=True)


@dataclass(frozen=True, kw_only=True)
class Use:
    """One node and what enters it: None in `inputs` for what depends on none of the tensors."""

    node: Node
    source: OnnxNode
    inputs: tuple[Dependence | None, ...]
    run: LayerRun

    @property
    def entering(self) -> tuple[int, ...]:
        """Places of the inputs that depend on the call's tensors."""
        return tuple(place for place, held in enumerate(self.inputs) if held is not None)

    @property
    def data(self) -> Dependence:
        """The first input, where it alone depends on the call's tensors."""
        first = self.inputs[0] if self.entering == (0,) else None
        return first or UNKNOWN

    @property
    def output(self) -> Sizes:
        """The shape of the first output."""
        return self.run.shapes.get(self.source.outputs[0]) or ()

    def shape(self, place: int) -> Sizes:
        """The shape of an input."""
        return self.run.shapes.get(self.source.inputs[place]) or ()

    def constant(self, place: int) -> Value:
        """A known input's value; None where it is left out, or not known."""
        if place >= len(self.source.inputs) or not self.source.inputs[place]:
            return None
        return self.run.value(self.source.inputs[place])

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.source.inputs) and bool(self.source.inputs[place])


def dependence(run: LayerRun) -> tuple[Dependence, ...]:
    """Of each output of a call that is a tensor, in order. The call has run at least once."""
    held = dict.fromkeys(run.tensors, ITSELF)
    for source in run.step.nodes:
        inputs = tuple(held.get(name) for name in source.inputs)
        if any(one is not None for one in inputs):
            rule = None if source.domain else RULES.get(source.op_type)
            node = run.runner.resolved(source)
            found = UNKNOWN
            if rule is not None and not (len(source.outputs) > 1 and any(source.outputs[1:])):
                found = rule(Use(node=node, source=source, inputs=inputs, run=run))
            # The shape of a tensor is known, whatever the tensor is.
            held.update((name, found) for name in source.outputs if run.value(name) is None)
    return tuple(held.get(name, UNKNOWN) for name in run.outputs)


Rule = Callable[[Use], Dependence]


def _elementwise(use: Use) -> Dependence:
    """A function of the numbers at one place, the inputs stretched to one shape."""
    shape = use.output
    entering = [use.inputs[place] or UNKNOWN for place in use.entering]
    shapes = [use.shape(place) for place in use.entering]
    aligned = all(one == shape for one in shapes)
    by_sample = (
        bool(shape)
        and all(one.by_sample for one in entering)
        and all(len(one) == len(shape) and one[0] == shape[0] for one in shapes)
        and all(
            len(use.shape(place)) < len(shape) or use.shape(place)[0] == 1
            for place, held in enumerate(use.inputs)
            if held is None and use.has(place)
        )
    )
    return Dependence(
        in_place=aligned and all(one.in_place for one in entering),
        affine=False,
        by_sample=by_sample,
        any_batch=by_sample and all(one.any_batch for one in entering),
    )


def _sum(use: Use) -> Dependence:
    found = _elementwise(use)
    affine = all((use.inputs[place] or UNKNOWN).affine for place in use.entering)
    return _with(found, affine=affine)


def _product(use: Use) -> Dependence:
    """A product with, or a quotient by, what is constant is affine."""
    found = _elementwise(use)
    alone = len(use.entering) == 1 and (use.node.kind == "Mul" or use.entering == (0,))
    return _with(found, affine=alone and (use.inputs[use.entering[0]] or UNKNOWN).affine)


def _cast(use: Use) -> Dependence:
    target = NAMES.get(int(use.node.get("to", 0)), "")
    return use.data if is_float(target) else UNKNOWN


def _dropout(use: Use) -> Dependence:
    """Nothing, in inference; before version 7 `is_test` says so, from 12 on an input."""
    node = use.node
    if node.since >= 12:
        mode = use.constant(2)
        off = not use.has(2) or (mode is not None and not bool(np.any(mode)))
    else:
        off = node.since >= 7 or bool(node.get("is_test", 0))
    return use.data if off else UNKNOWN


def _batch_normalization(use: Use) -> Dependence:
    """By stored statistics: a factor and a shift of each channel."""
    node = use.node
    if node.since >= 14:
        stored = not node.get("training_mode", 0)
    else:
        stored = node.since >= 7 or bool(node.get("is_test", 0))
    return _with(use.data, selects=False) if stored else UNKNOWN


def _linear(use: Use) -> Dependence:
    """A convolution by a constant kernel, or means over windows or whole maps."""
    return _with(use.data, in_place=False, selects=False)


def _gemm(use: Use) -> Dependence:
    return UNKNOWN if use.node.get("transA", 0) else _linear(use)


def _matmul(use: Use) -> Dependence:
    """By a constant matrix from the right."""
    ranks = len(use.shape(0)), len(use.shape(1))
    return _linear(use) if ranks[0] >= 2 and ranks[1] == 2 else UNKNOWN


def _largest(use: Use) -> Dependence:
    return _with(use.data, in_place=False, affine=False)


def _reshape(use: Use) -> Dependence:
    """The numbers in their order, in another shape; which may be told for one batch alone."""
    data = use.data
    before, after = use.shape(0), use.output
    if before == after:
        return data
    kept = bool(before and after) and before[0] == after[0]
    free = use.node.kind != "Reshape" or _leaves_batch(use.constant(1))
    return _with(
        data,
        in_place=False,
        by_sample=data.by_sample and kept,
        any_batch=data.any_batch and kept and free,
    )


def _leaves_batch(shape: Value) -> bool:
    return shape is not None and shape.size > 0 and int(shape.ravel()[0]) in (0, -1)


def _transpose(use: Use) -> Dependence:
    order = use.node.get("perm") or tuple(reversed(range(len(use.shape(0)))))
    kept = bool(order) and int(order[0]) == 0
    data = use.data
    return _with(
        data,
        in_place=data.in_place and list(order) == list(range(len(order))),
        by_sample=data.by_sample and kept,
        any_batch=data.any_batch and kept,
    )


def _concat(use: Use) -> Dependence:
    rank = len(use.output)
    axis = int(use.node.get("axis", 1))
    entering = [use.inputs[place] or UNKNOWN for place in use.entering]
    apart = rank > 0 and axis % rank != 0 and len(entering) == len(use.inputs)
    return Dependence(
        selects=all(one.selects for one in entering),
        affine=all(one.affine for one in entering),
        by_sample=apart and all(one.by_sample for one in entering),
        any_batch=apart and all(one.any_batch for one in entering),
    )


def _pad(use: Use) -> Dependence:
    """Numbers with others of them, or a constant, around."""
    pads: Any = use.node.get("pads") or use.node.get("paddings")
    if use.node.since >= 11:
        pads = use.constant(1)
    if pads is None or use.has(3):
        return UNKNOWN
    pads = np.asarray(pads).ravel()
    kept = pads.size > 0 and pads[0] == 0 and pads[pads.size // 2] == 0
    data = use.data
    return _with(
        data,
        in_place=False,
        by_sample=data.by_sample and bool(kept),
        any_batch=data.any_batch and bool(kept),
    )


def _over_axes(use: Use) -> Dependence:
    """Something of all numbers along one axis: a softmax."""
    rank = len(use.shape(0))
    axis = int(use.node.get("axis", -1 if use.node.since >= 13 else 1))
    return _apart(use, (axis % rank,) if rank else (0,))


def _layer_normalization(use: Use) -> Dependence:
    rank = len(use.shape(0))
    return _apart(use, (int(use.node.get("axis", -1)) % rank,) if rank else (0,))


def _by_channel(use: Use) -> Dependence:
    """Something of all numbers of a sample."""
    return _apart(use, (1,))


def _reduction(use: Use) -> Dependence:
    """A mean or sum over axes, which come as an attribute or, in later versions, as an input."""
    axes = use.node.get("axes")
    if axes is None:
        axes = use.constant(1)
    rank = len(use.shape(0))
    if axes is None or not rank:
        return UNKNOWN
    over = tuple(int(axis) % rank for axis in np.asarray(axes).ravel())
    found = _apart(use, over or (0,))
    return _with(found, affine=use.data.affine)


def _apart(use: Use, axes: Sequence[int]) -> Dependence:
    data = use.data
    kept = 0 not in axes
    return Dependence(by_sample=data.by_sample and kept, any_batch=data.any_batch and kept)


def _with(found: Dependence, **fields: bool) -> Dependence:
    """The same but for these, which hold only of what anything is known of."""
    return UNKNOWN if found == UNKNOWN else replace(found, **fields)


def _rules(rule: Rule, kinds: str) -> dict[str, Rule]:
    return dict.fromkeys(kinds.split(), rule)


RULES: dict[str, Rule] = {
    **_rules(
        _elementwise,
        "Abs Acos Acosh And Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Equal Erf Exp Floor "
        "Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual "
        "Log Max Min Mish Mod Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin "
        "Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Where Xor",
    ),
    **_rules(_sum, "Add Mean Neg Sub Sum"),
    **_rules(_product, "Div Mul"),
    **_rules(lambda use: use.data, "Identity"),
    **_rules(_cast, "Cast"),
    **_rules(_dropout, "Dropout"),
    **_rules(_batch_normalization, "BatchNormalization"),
    **_rules(_linear, "AveragePool Conv ConvTranspose GlobalAveragePool"),
    **_rules(_gemm, "Gemm"),
    **_rules(_matmul, "MatMul"),
    **_rules(_largest, "MaxPool"),
    **_rules(_reshape, "Flatten Reshape Squeeze Unsqueeze"),
    **_rules(_transpose, "Transpose"),
    **_rules(_concat, "Concat"),
    **_rules(_pad, "Pad"),
    **_rules(_over_axes, "Hardmax LogSoftmax Softmax"),
    **_rules(_layer_normalization, "LayerNormalization RMSNormalization"),
    **_rules(_by_channel, "GlobalMaxPool GroupNormalization InstanceNormalization LRN"),
    **_rules(_reduction, "ReduceMean ReduceSum"),
}
