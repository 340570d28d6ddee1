"""The table of operators, and what a node is in its place."""

from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx_models import Maker, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.formats.onnx_operators import CLASSICAL_OPAQUE, OPERATORS, TRAINING_STEPS, operator
from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import ACTIVATIONS, Op

SCHEMAS = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}


def call_of(
    maker: Maker, output: str, shape: tuple[Any, ...] = ("n", 4, 6), dtype: int = 1
) -> LayerCall:
    graph = read_onnx_proto(maker.model([value("x", shape, dtype)], [output]), Limits()).graph
    (call,) = graph.calls[1:]
    return call


def test_every_operator_onnx_defines_is_known() -> None:
    assert SCHEMAS - set(OPERATORS) == set()


def test_only_trees_and_training_steps_are_opaque() -> None:
    opaque = {name for (_, name), known in OPERATORS.items() if known.op is Op.OPAQUE}
    assert opaque == {*CLASSICAL_OPAQUE.split(), *TRAINING_STEPS.split(), "ATen", "BodyInputs"}
    assert all(known.note for known in OPERATORS.values() if known.op is Op.OPAQUE)


def test_activations_are_canonical() -> None:
    named = {known.activation for known in OPERATORS.values() if known.activation}
    assert named <= ACTIVATIONS
    activations = [known for known in OPERATORS.values() if known.op is Op.ACTIVATION]
    assert all(known.activation for known in activations)


def test_weight_roles_stand_at_the_inputs_of_that_name() -> None:
    """The positions of roles against ONNX's own schemas."""
    names = {
        "kernel": {"W", "w", "B", "A", "b", "a", "weight"},
        "recurrent_kernel": {"R"},
        "bias": {"B", "C", "bias"},
        "gamma": {"scale", "Scale"},
        "beta": {"B", "bias"},
        "moving_mean": {"input_mean"},
        "moving_variance": {"input_var"},
        "other": {"slope"},
    }
    for (domain, name), known in OPERATORS.items():
        if known.roles:
            inputs = onnx.defs.get_schema(name, domain=domain).inputs
            for position, role in known.roles.items():
                assert inputs[position].name in names[role], (name, position, role)


def test_unknown_operators_say_so() -> None:
    assert operator("", "Nonesuch").op is Op.OPAQUE
    assert "Nonesuch" in operator("", "Nonesuch").note
    assert "com.example" in operator("com.example", "Relu").note


@pytest.mark.parametrize(
    ("low", "high", "op", "activation"),
    [
        (0.0, 6.0, Op.ACTIVATION, "relu6"),
        (0.0, None, Op.ACTIVATION, "relu"),
        (-1.0, 1.0, Op.ACTIVATION, "hard_tanh"),
        (0.0, 1.0, Op.ELEMENTWISE, None),
    ],
)
def test_clip(low: float, high: float | None, op: Op, activation: str | None) -> None:
    maker = Maker()
    bounds = [maker.constant(low), *([maker.constant(high)] if high is not None else [])]
    call = call_of(maker, maker.node("Clip", "x", *bounds))
    assert (call.op, call.activation) == (op, activation)


def test_clip_with_a_bound_that_is_not_known_is_no_relu() -> None:
    maker = Maker()
    top = maker.node("Mul", maker.weight("a"), maker.weight("b"))
    call = call_of(maker, maker.node("Clip", "x", maker.constant(0.0), top))
    assert (call.op, call.activation) == (Op.ELEMENTWISE, None)


@pytest.mark.parametrize(
    ("axes", "keepdims", "shape", "op"),
    [
        ([2, 3], 1, ("n", 4, 5, 6), Op.GLOBAL_AVERAGE_POOL),
        ([1, 2], 0, ("n", 5, 6, 4), Op.GLOBAL_AVERAGE_POOL),
        ([-1, -2], 0, ("n", 4, 5, 6), Op.GLOBAL_AVERAGE_POOL),
        ([1], 0, ("n", 5, 6), Op.GLOBAL_AVERAGE_POOL),
        ([-1], 1, ("n", 5, 6), Op.REDUCE),
        ([1, 2, 3], 0, ("n", 4, 5, 6), Op.REDUCE),
        ([3], 0, ("n", 4, 5, 6), Op.REDUCE),
    ],
)
def test_mean(axes: list[int], keepdims: int, shape: tuple[Any, ...], op: Op) -> None:
    maker = Maker()
    call = call_of(maker, maker.node("ReduceMean", "x", axes=axes, keepdims=keepdims), shape)
    assert call.op is op


@pytest.mark.parametrize(
    ("kind", "op", "role"),
    [("Add", Op.SCALE, "beta"), ("Sub", Op.SCALE, "beta"), ("Mul", Op.SCALE, "gamma")],
)
def test_arithmetic_with_a_vector(kind: str, op: Op, role: str) -> None:
    maker = Maker()
    call = call_of(maker, maker.node(kind, "x", maker.weight("v", 6)))
    assert call.op is op
    assert [weight.role for weight in call.weights] == [role]


def test_arithmetic_with_a_number_is_a_setting() -> None:
    maker = Maker()
    call = call_of(maker, maker.node("Div", "x", maker.constant(255.0)))
    assert call.op is Op.SCALE
    assert call.weights == ()
    assert call.config["B"] == 255.0
    maker = Maker()
    assert call_of(maker, maker.node("Div", maker.constant(1.0), "x")).op is Op.ELEMENTWISE


def test_embedding() -> None:
    maker = Maker()
    y = maker.node("Gather", maker.weight("table", 100, 8), "x")
    call = call_of(maker, y, ("n", 5), onnx.TensorProto.INT64)
    assert call.op is Op.EMBEDDING
    assert call.out_shape == ("n", 5, 8)
    (table,) = call.weights
    assert (table.role, table.shape) == ("embeddings", (100, 8))
    assert (table.fan_in, table.fan_out, table.unit_axes) == (1, 8, (1,))


def test_matmul_from_the_left() -> None:
    maker = Maker()
    call = call_of(maker, maker.node("MatMul", maker.weight("w", 3, 4), "x"))
    assert call.op is Op.DENSE
    (kernel,) = call.weights
    assert (kernel.fan_in, kernel.fan_out, kernel.unit_axes) == (4, 3, (0,))
    assert call.out_shape == ("n", 3, 6)


def test_products_of_computed_tensors_have_no_kernel() -> None:
    for kind, shape in (("MatMul", ("n", 4, 4)), ("Gemm", (4, 4))):
        maker = Maker()
        call = call_of(maker, maker.node(kind, "x", "x"), shape)
        assert call.op is Op.MATMUL
        assert call.weights == ()


def test_einsum_with_a_kernel() -> None:
    maker = Maker()
    y = maker.node("Einsum", "x", maker.weight("w", 6, 2, 3), equation="btc,chd->bthd")
    call = call_of(maker, y)
    assert call.op is Op.EINSUM_DENSE
    (kernel,) = call.weights
    assert (kernel.fan_in, kernel.fan_out, kernel.unit_axes) == (6, 6, (1, 2))
    assert call.out_shape == ("n", 4, 2, 3)


@pytest.mark.parametrize(
    ("group", "strides", "fan_in", "fan_out", "units"),
    [(1, [1, 1], 36, 18, (1,)), (1, [2, 2], 9, 18, (1,)), (2, [1, 1], 18, 18, ())],
)
def test_transposed_convolution(
    group: int, strides: list[int], fan_in: int, fan_out: int, units: tuple[int, ...]
) -> None:
    maker = Maker()
    y = maker.node(
        "ConvTranspose", "x", maker.weight("w", 4, 2, 3, 3), group=group, strides=strides
    )
    call = call_of(maker, y, ("n", 4, 5, 5))
    (kernel,) = call.weights
    assert (kernel.fan_in, kernel.fan_out, kernel.unit_axes) == (fan_in, fan_out, units)
    size = (5 - 1) * strides[0] + 3
    assert call.out_shape == ("n", 2 * group, size, size)


def test_grouped_convolution() -> None:
    maker = Maker()
    call = call_of(
        maker, maker.node("Conv", "x", maker.weight("w", 8, 2, 3, 3), group=2), ("n", 4, 5, 5)
    )
    assert call.op is Op.CONV
    (kernel,) = call.weights
    assert (kernel.fan_in, kernel.fan_out) == (18, 36)


def test_masking_and_choice() -> None:
    maker = Maker()
    mask = maker.tensor("mask", np.tril(np.ones((4, 6))), "bool")
    assert call_of(maker, maker.node("Where", mask, "x", maker.constant(-1e9))).op is Op.MASKING


def test_dropout_in_keras_terms() -> None:
    maker = Maker()
    call = call_of(maker, maker.node("Dropout", "x", maker.constant(0.3), outputs=["y"]))
    assert call.op is Op.DROPOUT
    assert call.config["rate"] == pytest.approx(0.3)


def test_leaky_relu_default_slope() -> None:
    maker = Maker()
    call = call_of(maker, maker.node("LeakyRelu", "x"))
    assert call.config["negative_slope"] == pytest.approx(0.01)
